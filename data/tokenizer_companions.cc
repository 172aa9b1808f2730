// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_companions.h"

#include <charconv>
#include <filesystem>
#include <span>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/byte_alphabet.h"
#include "data/tokenizer_json_writer.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;

constexpr char kConfigFile[] = "tokenizer_config.json", kMapFile[] = "special_tokens_map.json";
constexpr char kTemplateFile[] = "chat_template.jinja";
constexpr int64_t kMaxFileBytes = int64_t{256} << 20;
constexpr const char* kFiles[] = {kConfigFile,         kMapFile,     kTemplateFile,
                                  "added_tokens.json", "vocab.json", "merges.txt"};

// Names that models give to these tokens, the most telling first. U+FF5C and U+2581 are written out.
constexpr std::string_view kUsualBos[] = {"<|begin_of_text|>",
                                          "<\xEF\xBD\x9C"
                                          "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                          "<bos>", "<s>"};
constexpr std::string_view kUsualEos[] = {"<|end_of_text|>",
                                          "<\xEF\xBD\x9C"
                                          "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                          "<eos>",
                                          "</s>",
                                          "<|endoftext|>",
                                          "<|im_end|>"};

absl::StatusOr<std::map<std::string, std::string>> ReadFiles(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const char* name : kFiles) {
    const std::string path = (std::filesystem::path(folder) / name).string();
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) continue;
    ASSIGN_OR_RETURN(files[name], core::ReadTextFile(path, kMaxFileBytes));
  }
  return files;
}

absl::StatusOr<Json> ParseIfThere(const std::map<std::string, std::string>& files, const char* name,
                                  const std::string& folder) {
  const auto file = files.find(name);
  if (file == files.end()) return Json::object();
  const std::string path = (std::filesystem::path(folder) / name).string();
  ASSIGN_OR_RETURN(Json json, core::ParseJson(file->second, {.name = path}, {}));
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrFormat("%s: not a JSON object", path));
  return json;
}

// "<s>", or {"content": "<s>", ...}; "" for anything else.
std::string TokenName(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_object()) return "";
  const auto content = found->find("content");
  return content != found->end() && content->is_string() ? content->get<std::string>() : "";
}

int32_t FindId(const BpeDescription& description, std::string_view name) {
  if (name.empty()) return -1;
  for (const AddedToken& token : description.added_tokens) {
    if (token.content == name) return token.id;
  }
  for (const auto& [id, text] : description.plain_tokens) {
    if (text == name) return id;
  }
  const std::optional<std::string> bytes = FromByteAlphabet(name);
  for (size_t id = 0; bytes && id < description.tokens.size(); ++id) {
    if (description.tokens[id] == *bytes) return static_cast<int32_t>(id);
  }
  return -1;
}

int32_t FindUsual(const BpeDescription& description, std::span<const std::string_view> names) {
  for (const std::string_view name : names) {
    for (const AddedToken& token : description.added_tokens) {
      if (token.content == name) return token.id;
    }
  }
  return -1;
}

bool FlagOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

// {"128000": {"content": "<|begin_of_text|>", "special": true, ...}, ...}
absl::Status AddMissingTokens(const Json& config, BpeDescription& description) {
  const auto table = config.find("added_tokens_decoder");
  if (table == config.end() || !table->is_object()) return absl::OkStatus();
  for (const auto& [key, entry] : table->items()) {
    AddedToken token;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
    token.content = TokenName(*table, key.c_str());
    if (error != std::errc() || end != key.data() + key.size() || token.id < 0 || token.id > 1 << 22 ||
        token.content.empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: added_tokens_decoder: \"%s\" is not an id with a content", kConfigFile, key));
    }
    if (FindId(description, token.content) >= 0) continue;
    token.special = FlagOf(entry, "special");
    token.normalized = FlagOf(entry, "normalized");
    token.lstrip = FlagOf(entry, "lstrip");
    token.rstrip = FlagOf(entry, "rstrip");
    token.single_word = FlagOf(entry, "single_word");
    description.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// chat_template.jinja, else the text of tokenizer_config.json, of several that named "default".
std::string ChatTemplateOf(const std::map<std::string, std::string>& files, const Json& config) {
  if (const auto file = files.find(kTemplateFile); file != files.end()) return file->second;
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return "";
  for (const Json& entry : *found) {
    if (!entry.is_object() || entry.value("name", Json()) != "default") continue;
    const Json text = entry.value("template", Json());
    if (text.is_string()) return text.get<std::string>();
  }
  return "";
}

// What transformers needs to load tokenizer.json as it is: the class in a foreign config may stand for another way to
// cut text (DeepSeek-V3 names LlamaTokenizerFast, and transformers 5 then loses blanks).
std::string ConfigForModelFolder(const std::map<std::string, std::string>& files, const BpeTokenizer::Surroundings& ids,
                                 const BpeDescription& description) {
  const auto file = files.find(kConfigFile);
  if (file == files.end()) {
    const auto name_of = [&](int32_t id) -> std::string {
      for (const AddedToken& token : description.added_tokens) {
        if (token.id == id) return token.content;
      }
      return "";
    };
    return TokenizerConfigJson({.bos = name_of(ids.bos_id), .eos = name_of(ids.eos_id), .pad = name_of(ids.pad_id)});
  }
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(file->second, nullptr, /*allow_exceptions=*/false);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  return config.dump(2) + "\n";
}

}  // namespace

absl::StatusOr<BpeTokenizer::Surroundings> ReadCompanions(const std::string& folder,
                                                          const std::vector<std::string>& template_tokens,
                                                          BpeDescription& description) {
  BpeTokenizer::Surroundings out;
  ASSIGN_OR_RETURN(out.files, ReadFiles(folder));
  ASSIGN_OR_RETURN(const Json config, ParseIfThere(out.files, kConfigFile, folder));
  ASSIGN_OR_RETURN(const Json map, ParseIfThere(out.files, kMapFile, folder));
  RETURN_IF_ERROR(AddMissingTokens(config, description));
  const auto find = [&](const char* key) {
    const std::string name = TokenName(config, key);
    return FindId(description, name.empty() ? TokenName(map, key) : name);
  };
  out.bos_id = find("bos_token");
  out.eos_id = find("eos_token");
  out.pad_id = find("pad_token");
  if (out.bos_id < 0 && !config.contains("bos_token")) {
    out.bos_id = template_tokens.empty() ? FindUsual(description, kUsualBos) : FindId(description, template_tokens[0]);
  }
  if (out.eos_id < 0 && !config.contains("eos_token")) out.eos_id = FindUsual(description, kUsualEos);
  out.chat_template = ChatTemplateOf(out.files, config);
  out.files[kConfigFile] = ConfigForModelFolder(out.files, out, description);
  return out;
}

}  // namespace conclave::data
