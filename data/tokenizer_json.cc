// SPDX-License-Identifier: Apache-2.0
#include "data/tokenizer_json.h"

#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"
#include "data/byte_alphabet.h"
#include "data/pattern_syntax.h"
#include "data/tokenizer_json_events.h"

namespace conclave::data {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxId = int64_t{1} << 22;
constexpr size_t kMaxBytes = size_t{256} << 20;

absl::Status Refuse(const std::string& what) { return absl::UnimplementedError(what); }

// The member `key` of an object; null if it is absent.
const Json& Member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string TextOf(const Json& object, const char* key) {
  const Json& value = Member(object, key);
  return value.is_string() ? value.get<std::string>() : "";
}

bool FlagOf(const Json& object, const char* key, bool otherwise) {
  const Json& value = Member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

// A Sequence's members, or the one thing itself; nothing for null.
std::vector<Json> Flattened(const Json& step, const char* members) {
  if (step.is_null()) return {};
  if (TextOf(step, "type") != "Sequence") return {step};
  std::vector<Json> steps;
  for (const Json& inner : Member(step, members)) {
    for (Json& flat : Flattened(inner, members)) steps.push_back(std::move(flat));
  }
  return steps;
}

absl::Status ReadNormalizers(const Json& root, BpeDescription& out) {
  for (const Json& step : Flattened(Member(root, "normalizer"), "normalizers")) {
    const std::string type = TextOf(step, "type");
    if (type == "NFC") {
      out.normalizations.push_back(Normalization::kNfc);
    } else if (type == "NFD") {
      out.normalizations.push_back(Normalization::kNfd);
    } else if (type == "NFKC") {
      out.normalizations.push_back(Normalization::kNfkc);
    } else if (type == "NFKD") {
      out.normalizations.push_back(Normalization::kNfkd);
    } else {
      return Refuse(absl::StrFormat("normalizer \"%s\" is not supported; supported are NFC, NFD, NFKC, NFKD", type));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SplitRule> ReadSplit(const Json& step) {
  static const std::pair<const char*, SplitRule::Behavior> kBehaviors[] = {
      {"Removed", SplitRule::Behavior::kRemoved},
      {"Isolated", SplitRule::Behavior::kIsolated},
      {"MergedWithPrevious", SplitRule::Behavior::kMergedWithPrevious},
      {"MergedWithNext", SplitRule::Behavior::kMergedWithNext},
      {"Contiguous", SplitRule::Behavior::kContiguous}};
  SplitRule rule;
  const Json& pattern = Member(step, "pattern");
  if (Member(pattern, "Regex").is_string()) {
    rule.regex = TextOf(pattern, "Regex");
  } else if (Member(pattern, "String").is_string()) {
    rule.regex = LiteralPattern(TextOf(pattern, "String"));
  } else {
    return Refuse("pre_tokenizer Split: its pattern is neither {\"Regex\": text} nor {\"String\": text}");
  }
  rule.invert = FlagOf(step, "invert", false);
  const std::string behavior = TextOf(step, "behavior");
  for (const auto& [name, value] : kBehaviors) {
    if (behavior != name) continue;
    rule.behavior = value;
    return rule;
  }
  return Refuse(absl::StrFormat("pre_tokenizer Split: behavior \"%s\" is not known", behavior));
}

absl::Status ReadPreTokenizers(const Json& root, BpeDescription& out) {
  bool byte_level = false;
  for (const Json& step : Flattened(Member(root, "pre_tokenizer"), "pretokenizers")) {
    const std::string type = TextOf(step, "type");
    if (byte_level) return Refuse(absl::StrFormat("pre_tokenizer \"%s\" behind ByteLevel is not supported", type));
    if (type == "Split") {
      ASSIGN_OR_RETURN(SplitRule rule, ReadSplit(step));
      out.splits.push_back(std::move(rule));
    } else if (type == "Digits") {
      const bool single = FlagOf(step, "individual_digits", false);
      out.splits.push_back({single ? R"(\p{N})" : R"(\p{N}+)", SplitRule::Behavior::kIsolated, false});
    } else if (type == "ByteLevel") {
      byte_level = true;
      out.add_prefix_space = FlagOf(step, "add_prefix_space", true);
      if (out.add_prefix_space && !out.splits.empty()) {
        return Refuse("pre_tokenizer ByteLevel: add_prefix_space behind another split is not supported");
      }
      if (FlagOf(step, "use_regex", true)) out.splits.push_back({kGpt2Pattern, SplitRule::Behavior::kIsolated, false});
    } else {
      return Refuse(absl::StrFormat(
          "pre_tokenizer \"%s\" is not supported; byte-level BPE has Split, Digits and ByteLevel", type));
    }
  }
  if (byte_level) return absl::OkStatus();
  return Refuse("this is not byte-level BPE: pre_tokenizer has no ByteLevel");
}

absl::Status CheckModel(const Json& model) {
  const std::string type = TextOf(model, "type");
  if (!model.is_object()) return absl::InvalidArgumentError("\"model\" is missing or not an object");
  if (!type.empty() && type != "BPE") return Refuse(absl::StrFormat("model \"%s\" is not supported, only BPE", type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!TextOf(model, key).empty()) return Refuse(absl::StrFormat("model.%s is not supported", key));
  }
  if (FlagOf(model, "byte_fallback", false))
    return Refuse("model.byte_fallback is not supported: every byte has a token");
  const Json& dropout = Member(model, "dropout");
  if (dropout.is_number() && dropout.get<double>() != 0) return Refuse("model.dropout is not supported");
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const Json& root, BpeDescription& out) {
  for (const Json& entry : Member(root, "added_tokens")) {
    const Json& id = Member(entry, "id");
    AddedToken token;
    token.content = TextOf(entry, "content");
    if (token.content.empty() || !id.is_number_unsigned() || id.get<uint64_t>() > kMaxId) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "added_tokens: entry %d has no content, or no id within 0 and %d", out.added_tokens.size(), kMaxId));
    }
    token.id = static_cast<int32_t>(id.get<uint64_t>());
    token.special = FlagOf(entry, "special", false);
    token.normalized = FlagOf(entry, "normalized", !token.special);
    token.lstrip = FlagOf(entry, "lstrip", false);
    token.rstrip = FlagOf(entry, "rstrip", false);
    token.single_word = FlagOf(entry, "single_word", false);
    out.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

using Vocabulary = std::vector<std::pair<std::string, uint64_t>>;
using VocabularyMap = absl::flat_hash_map<std::string_view, int32_t>;

// Maps views into `vocabulary`, of which no text stands twice.
absl::StatusOr<VocabularyMap> ReadVocabulary(const Vocabulary& vocabulary, BpeDescription& out) {
  VocabularyMap ids;
  ids.reserve(vocabulary.size());
  std::vector<bool> used;
  for (const auto& [text, id] : vocabulary) {
    if (id > kMaxId) {
      return absl::InvalidArgumentError(absl::StrFormat("model.vocab: id %d of \"%s\" is above %d", id, text, kMaxId));
    }
    if (id >= used.size()) used.resize(id + 1);
    if (used[id]) return absl::InvalidArgumentError(absl::StrFormat("model.vocab: id %d is given to two texts", id));
    used[id] = true;
    ids.emplace(text, static_cast<int32_t>(id));
  }
  if (ids.empty()) return absl::InvalidArgumentError("model.vocab is missing or empty");
  out.tokens.resize(used.size());
  for (const auto& [text, id] : vocabulary) {
    if (std::optional<std::string> bytes = FromByteAlphabet(text)) {
      out.tokens[id] = *std::move(bytes);
    } else {
      out.plain_tokens.emplace_back(static_cast<int32_t>(id), text);
    }
  }
  return ids;
}

absl::Status ReadMerges(const std::vector<std::pair<std::string, std::string>>& merges, const VocabularyMap& ids,
                        BpeDescription& out) {
  out.merges.reserve(merges.size());
  std::string joined;
  for (const auto& [left, right] : merges) {
    joined.assign(left).append(right);
    const auto left_id = ids.find(left), right_id = ids.find(right), result = ids.find(joined);
    if (left_id == ids.end() || right_id == ids.end() || result == ids.end()) {
      const std::string& missing = left_id == ids.end() ? left : right_id == ids.end() ? right : joined;
      return absl::InvalidArgumentError(absl::StrFormat(
          "model.merges: merge %d needs \"%s\", which is not in the vocabulary", out.merges.size(), missing));
    }
    out.merges.push_back({left_id->second, right_id->second, result->second});
  }
  return absl::OkStatus();
}

// Special tokens that stand before the text: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}].
std::vector<std::string> TemplateTokens(const Json& root) {
  std::vector<std::string> names;
  for (const Json& step : Flattened(Member(root, "post_processor"), "processors")) {
    if (TextOf(step, "type") != "TemplateProcessing") continue;
    for (const Json& part : Member(step, "single")) {
      const Json& special = Member(part, "SpecialToken");
      if (special.is_null()) break;
      names.push_back(TextOf(special, "id"));
    }
  }
  return names;
}

absl::StatusOr<TokenizerJson> Interpret(TokenizerJsonEvents& events) {
  const Json root = events.Take();
  const Json& model = Member(root, "model");
  TokenizerJson file;
  BpeDescription& out = file.description;
  RETURN_IF_ERROR(CheckModel(model));
  RETURN_IF_ERROR(ReadNormalizers(root, out));
  RETURN_IF_ERROR(ReadPreTokenizers(root, out));
  RETURN_IF_ERROR(ReadAddedTokens(root, out));
  const Vocabulary vocabulary = events.TakeVocabulary();
  ASSIGN_OR_RETURN(const VocabularyMap ids, ReadVocabulary(vocabulary, out));
  RETURN_IF_ERROR(ReadMerges(events.TakeMerges(), ids, out));
  out.ignore_merges = FlagOf(model, "ignore_merges", false);
  if (const std::string unknown = TextOf(model, "unk_token"); !unknown.empty()) {
    const auto found = ids.find(unknown);
    if (found != ids.end()) out.unknown_id = found->second;
  }
  file.template_tokens = TemplateTokens(root);
  return file;
}

}  // namespace

absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text, const std::string& name) {
  TokenizerJsonEvents events;
  RETURN_IF_ERROR(core::ReadJson(text, {.name = name}, {.max_bytes = kMaxBytes}, events));
  absl::StatusOr<TokenizerJson> file = Interpret(events);
  if (file.ok()) return file;
  return absl::Status(file.status().code(), absl::StrFormat("%s: %s", name, std::string(file.status().message())));
}

}  // namespace conclave::data
