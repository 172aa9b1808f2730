// SPDX-License-Identifier: Apache-2.0
// As a tokenizer.json this is byte-level BPE without merges: the vocabulary maps the 256 characters of GPT-2's byte
// alphabet to the bytes they stand for, and the nine names are added tokens.
#include "data/byte_tokenizer.h"

#include <array>
#include <optional>
#include <utility>

#include "nlohmann/json.hpp"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/json_tree.h"
#include "data/chat_template.h"
#include "data/tokenizer_json_writer.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;

constexpr int32_t kFirstName = ByteTokenizer::kBos;
constexpr std::array<std::string_view, 9> kNames = {"<bos>",   "<eos>",    "<pad>",    "<|User|>", "<|Assistant|>",
                                                    "<think>", "</think>", "<answer>", "</answer>"};

// The name that starts at text[begin], as an id. No name is the start of another, so the first match is the longest.
std::optional<int32_t> NameAt(std::string_view text, size_t begin) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text.substr(begin, kNames[i].size()) == kNames[i]) return kFirstName + static_cast<int32_t>(i);
  }
  return std::nullopt;
}

BpeDescription Description() {
  BpeDescription description;
  for (int byte = 0; byte < 256; ++byte) description.tokens.emplace_back(1, static_cast<char>(byte));
  for (size_t i = 0; i < kNames.size(); ++i) {
    const int32_t id = kFirstName + static_cast<int32_t>(i);
    description.added_tokens.push_back(
        {.content = std::string(kNames[i]), .id = id, .special = ByteTokenizer().IsSpecial(id)});
  }
  return description;
}

std::string DescriptionJson() {
  absl::StatusOr<std::string> json = WriteTokenizerJson(Description());
  CHECK(json.ok());
  return *std::move(json);
}

TokenizerConfig Config() {
  const auto name = [](int32_t id) { return std::string(kNames[id - kFirstName]); };
  return {.bos = name(ByteTokenizer::kBos),
          .eos = name(ByteTokenizer::kEos),
          .pad = name(ByteTokenizer::kPad),
          .additional_special_tokens = {name(ByteTokenizer::kUser), name(ByteTokenizer::kAssistant)},
          .chat_template = ChatTemplateJinja()};
}

class ByteEncoder final : public Encoder {
 public:
  void Encode(std::string_view text, Parse parse, std::vector<int32_t>& ids) override {
    ids.reserve(ids.size() + text.size());
    for (size_t i = 0; i < text.size();) {
      const std::optional<int32_t> name = text[i] == '<' ? NameAt(text, i) : std::nullopt;
      if (name && (parse == Parse::kSpecial || !ByteTokenizer().IsSpecial(*name))) {
        ids.push_back(*name);
        i += kNames[*name - kFirstName].size();
      } else {
        ids.push_back(static_cast<unsigned char>(text[i++]));
      }
    }
  }
};

// The member `key` of an object, or null.
const Json& Member(const Json& object, const char* key) {
  static const Json kNull;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : kNull;
}

bool SameVocabulary(const Json& found, const Json& expected) {
  if (!found.is_object() || found.size() != expected.size()) return false;
  for (const auto& [character, byte] : expected.items()) {
    if (Member(found, character.c_str()) != byte) return false;
  }
  return true;
}

bool SameAddedTokens(const Json& found, const Json& expected) {
  if (!found.is_array() || found.size() != expected.size()) return false;
  for (size_t i = 0; i < expected.size(); ++i) {
    for (const char* key : {"id", "content", "lstrip", "rstrip", "single_word", "special"}) {
      if (Member(found[i], key) != Member(expected[i], key)) return false;
    }
  }
  return true;
}

// transformers 5 saves a template that holds the text alone where there was none.
bool AddsNothing(const Json& post_processor) {
  return post_processor.is_null() || (Member(post_processor, "type") == "TemplateProcessing" &&
                                      Member(post_processor, "special_tokens") == Json::object());
}

}  // namespace

std::unique_ptr<Encoder> ByteTokenizer::NewEncoder() const { return std::make_unique<ByteEncoder>(); }

std::string ByteTokenizer::TokenText(int32_t id) const {
  if (id < 0 || id >= kVocabSize) return "";
  return id < kFirstName ? std::string(1, static_cast<char>(id)) : std::string(kNames[id - kFirstName]);
}

std::string ByteTokenizer::Fingerprint() const {
  core::Hasher hasher;
  const std::string description = DescriptionJson();
  hasher.Update(description.data(), description.size());
  return hasher.HexDigest();
}

std::string ByteTokenizer::ChatTemplateText() const { return ChatTemplateJinja(); }

std::map<std::string, std::string> ByteTokenizer::Files() const {
  return {{"tokenizer.json", DescriptionJson()},
          {"tokenizer_config.json", TokenizerConfigJson(Config())},
          {"special_tokens_map.json", SpecialTokensMapJson(Config())}};
}

bool ByteTokenizer::Describes(std::string_view tokenizer_json) {
  constexpr size_t kMaxBytes = 64 << 10;  // ours has about 12 KiB; no need to read a vocabulary of megabytes
  const absl::StatusOr<Json> file = core::ParseJson(tokenizer_json, {}, {.max_bytes = kMaxBytes});
  if (!file.ok()) return false;
  const Json& model = Member(*file, "model");
  const Json& splitter = Member(*file, "pre_tokenizer");
  const Json expected = Json::parse(DescriptionJson());
  return Member(model, "type") == "BPE" && SameVocabulary(Member(model, "vocab"), expected["model"]["vocab"]) &&
         Member(model, "merges") == Json::array() && Member(*file, "normalizer").is_null() &&
         AddsNothing(Member(*file, "post_processor")) && Member(splitter, "type") == "ByteLevel" &&
         Member(splitter, "add_prefix_space") == false &&
         SameAddedTokens(Member(*file, "added_tokens"), expected["added_tokens"]);
}

}  // namespace conclave::data
