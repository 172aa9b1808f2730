// SPDX-License-Identifier: Apache-2.0
// As a tokenizer.json this is byte-level BPE without merges: the vocabulary maps the 256 characters of GPT-2's byte
// alphabet to the bytes they stand for, and the nine names are added tokens.
#include "data/byte_tokenizer.h"

#include <array>
#include <optional>

#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/json_tree.h"
#include "data/chat_template.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // for files that people read; slow with many keys

constexpr int32_t kFirstName = ByteTokenizer::kBos;
constexpr std::array<std::string_view, 9> kNames = {"<bos>",   "<eos>",    "<pad>",    "<|User|>", "<|Assistant|>",
                                                    "<think>", "</think>", "<answer>", "</answer>"};

// GPT-2's alphabet: printable bytes stand for themselves, the other 68 in rising order for code points 256 on. UTF-8.
std::array<std::string, 256> ByteAlphabet() {
  std::array<std::string, 256> alphabet;
  int next_replacement = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int code_point = printable ? byte : next_replacement++;
    if (code_point < 128) {
      alphabet[byte] = static_cast<char>(code_point);
    } else {
      alphabet[byte] = {static_cast<char>(0xC0 | (code_point >> 6)), static_cast<char>(0x80 | (code_point & 0x3F))};
    }
  }
  return alphabet;
}

OrderedJson Vocabulary() {
  const std::array<std::string, 256> alphabet = ByteAlphabet();
  OrderedJson vocabulary = OrderedJson::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[alphabet[byte]] = byte;
  return vocabulary;
}

// The name that starts at text[begin], as an id. No name is the start of another, so the first match is the longest.
std::optional<int32_t> NameAt(std::string_view text, size_t begin) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text.substr(begin, kNames[i].size()) == kNames[i]) return kFirstName + static_cast<int32_t>(i);
  }
  return std::nullopt;
}

OrderedJson AddedTokens(const Tokenizer& tokenizer) {
  OrderedJson tokens = OrderedJson::array();
  for (size_t i = 0; i < kNames.size(); ++i) {
    const int32_t id = kFirstName + static_cast<int32_t>(i);
    tokens.push_back({{"id", id},
                      {"content", kNames[i]},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", tokenizer.IsSpecial(id)}});
  }
  return tokens;
}

OrderedJson ByteLevel() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
}

OrderedJson TokenizerJson(const Tokenizer& tokenizer) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", AddedTokens(tokenizer)},
          {"normalizer", nullptr},
          {"pre_tokenizer", ByteLevel()},
          {"post_processor", nullptr},
          {"decoder", ByteLevel()},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", Vocabulary()},
            {"merges", OrderedJson::array()}}}};
}

OrderedJson SpecialTokensMap() {
  return {{"bos_token", kNames[0]}, {"eos_token", kNames[1]}, {"pad_token", kNames[2]}};
}

OrderedJson TokenizerConfig() {
  OrderedJson config = SpecialTokensMap();
  config["unk_token"] = nullptr;  // otherwise transformers 5 adds one of its own in folders of model_type qwen2
  config["additional_special_tokens"] = {kNames[3], kNames[4]};
  config["clean_up_tokenization_spaces"] = false;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["chat_template"] = ChatTemplateJinja();
  return config;
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
  const std::string description = TokenizerJson(*this).dump();
  hasher.Update(description.data(), description.size());
  return hasher.HexDigest();
}

std::string ByteTokenizer::ChatTemplateText() const { return ChatTemplateJinja(); }

std::map<std::string, std::string> ByteTokenizer::Files() const {
  return {{"tokenizer.json", TokenizerJson(*this).dump(2) + "\n"},
          {"tokenizer_config.json", TokenizerConfig().dump(2) + "\n"},
          {"special_tokens_map.json", SpecialTokensMap().dump(2) + "\n"}};
}

bool ByteTokenizer::Describes(std::string_view tokenizer_json) {
  constexpr size_t kMaxBytes = 64 << 10;  // ours has about 12 KiB; no need to read a vocabulary of megabytes
  const absl::StatusOr<Json> file = core::ParseJson(tokenizer_json, {}, {.max_bytes = kMaxBytes});
  if (!file.ok()) return false;
  const Json& model = Member(*file, "model");
  const Json& splitter = Member(*file, "pre_tokenizer");
  return Member(model, "type") == "BPE" && SameVocabulary(Member(model, "vocab"), Vocabulary()) &&
         Member(model, "merges") == Json::array() && Member(*file, "normalizer").is_null() &&
         AddsNothing(Member(*file, "post_processor")) && Member(splitter, "type") == "ByteLevel" &&
         Member(splitter, "add_prefix_space") == false &&
         SameAddedTokens(Member(*file, "added_tokens"), AddedTokens(ByteTokenizer()));
}

}  // namespace conclave::data
