// SPDX-License-Identifier: Apache-2.0
// An ordered_json object looks for a key among all others before it adds one. The vocabulary is appended to the list
// below it instead, its keys checked here, so that time is linear in the number of tokens.
#include "data/tokenizer_json_writer.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"
#include "data/byte_alphabet.h"

namespace conclave::data {
namespace {

using OrderedJson = nlohmann::ordered_json;

struct Entry {
  std::string text;
  int32_t id = -1;
};

std::vector<AddedToken> AddedById(const BpeDescription& description) {
  std::vector<AddedToken> added = description.added_tokens;
  std::stable_sort(added.begin(), added.end(), [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return added;
}

// How each token of the model is written, by id; "" for ids without one.
std::vector<std::string> TokenTexts(const BpeDescription& description) {
  std::vector<std::string> texts(description.tokens.size());
  for (size_t id = 0; id < texts.size(); ++id) texts[id] = ToByteAlphabet(description.tokens[id]);
  for (const auto& [id, text] : description.plain_tokens) texts[id] = text;
  return texts;
}

// The vocabulary by id. Added tokens that the model lacks get the ids behind it from the library, one after the other;
// where that would not give them their own, all of them stand in the vocabulary.
std::vector<Entry> VocabularyEntries(const BpeDescription& description) {
  std::vector<std::string> texts = TokenTexts(description);
  auto next_id =
      static_cast<int64_t>(std::count_if(texts.begin(), texts.end(), [](auto& text) { return !text.empty(); }));
  const std::vector<AddedToken> added = AddedById(description);
  const auto lacks = [&](const AddedToken& token) {
    return token.id >= static_cast<int64_t>(description.tokens.size()) || texts[token.id].empty();
  };
  bool ids_follow = true;
  for (const AddedToken& token : added) ids_follow &= !lacks(token) || token.id == next_id++;
  for (const AddedToken& token : added) {
    if (lacks(token) && ids_follow) continue;
    if (token.id >= static_cast<int64_t>(texts.size())) texts.resize(token.id + 1);
    texts[token.id] = token.content;
  }
  std::vector<Entry> entries;
  for (size_t id = 0; id < texts.size(); ++id) {
    if (!texts[id].empty()) entries.push_back({std::move(texts[id]), static_cast<int32_t>(id)});
  }
  return entries;
}

absl::StatusOr<OrderedJson> VocabularyJson(const BpeDescription& description) {
  std::vector<Entry> entries = VocabularyEntries(description);
  absl::flat_hash_map<std::string, int32_t> ids;
  ids.reserve(entries.size());
  OrderedJson vocabulary = OrderedJson::object();
  auto& members = vocabulary.get_ref<OrderedJson::object_t&>();
  members.reserve(entries.size());
  for (Entry& entry : entries) {
    const auto [same, is_new] = ids.emplace(entry.text, entry.id);
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tokens %d and %d would both be written as \"%s\"; rename the special token", same->second,
                          entry.id, entry.text));
    }
    members.emplace_back(std::move(entry.text), entry.id);
  }
  return vocabulary;
}

// By falling priority.
std::vector<BpeDescription::Merge> MergesInOrder(const BpeDescription& description) {
  std::vector<BpeDescription::Merge> merges = description.merges;
  if (description.rank_is_result) {
    std::stable_sort(merges.begin(), merges.end(), [](const auto& a, const auto& b) { return a.result < b.result; });
  }
  return merges;
}

OrderedJson Merges(const BpeDescription& description) {
  const std::vector<std::string> texts = TokenTexts(description);
  OrderedJson merges = OrderedJson::array();
  for (const BpeDescription::Merge& merge : MergesInOrder(description)) {
    merges.push_back(OrderedJson::array({texts[merge.left], texts[merge.right]}));
  }
  return merges;
}

OrderedJson AddedTokens(const BpeDescription& description) {
  OrderedJson tokens = OrderedJson::array();
  for (const AddedToken& token : AddedById(description)) {
    tokens.push_back({{"id", token.id},
                      {"content", token.content},
                      {"single_word", token.single_word},
                      {"lstrip", token.lstrip},
                      {"rstrip", token.rstrip},
                      {"normalized", token.normalized},
                      {"special", token.special}});
  }
  return tokens;
}

const char* Name(Normalization normalization) {
  switch (normalization) {
    case Normalization::kNfc:
      return "NFC";
    case Normalization::kNfd:
      return "NFD";
    case Normalization::kNfkc:
      return "NFKC";
    case Normalization::kNfkd:
      return "NFKD";
  }
  return "";
}

const char* Name(SplitRule::Behavior behavior) {
  switch (behavior) {
    case SplitRule::Behavior::kRemoved:
      return "Removed";
    case SplitRule::Behavior::kIsolated:
      return "Isolated";
    case SplitRule::Behavior::kMergedWithPrevious:
      return "MergedWithPrevious";
    case SplitRule::Behavior::kMergedWithNext:
      return "MergedWithNext";
    case SplitRule::Behavior::kContiguous:
      return "Contiguous";
  }
  return "";
}

OrderedJson SequenceOf(const char* members, OrderedJson steps) {
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {members, std::move(steps)}};
}

OrderedJson Normalizer(const BpeDescription& description) {
  if (description.normalizations.empty()) return nullptr;
  OrderedJson steps = OrderedJson::array();
  for (const Normalization step : description.normalizations) steps.push_back({{"type", Name(step)}});
  return SequenceOf("normalizers", std::move(steps));
}

OrderedJson ByteLevel(const BpeDescription& description, bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", description.add_prefix_space},
          {"trim_offsets", false},
          {"use_regex", use_regex}};
}

// ByteLevel has GPT-2's pattern built in; a prefix space comes before it.
OrderedJson PreTokenizer(const BpeDescription& description) {
  OrderedJson steps = OrderedJson::array();
  const std::vector<SplitRule>& splits = description.splits;
  const bool gpt2 = !splits.empty() && splits.back().regex == kGpt2Pattern &&
                    splits.back().behavior == SplitRule::Behavior::kIsolated && !splits.back().invert;
  for (size_t i = 0; i + (gpt2 ? 1 : 0) < splits.size(); ++i) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", splits[i].regex}}},
                     {"behavior", Name(splits[i].behavior)},
                     {"invert", splits[i].invert}});
  }
  steps.push_back(ByteLevel(description, gpt2));
  return SequenceOf("pretokenizers", std::move(steps));
}

OrderedJson UnknownToken(const BpeDescription& description) {
  for (const AddedToken& token : description.added_tokens) {
    if (token.id == description.unknown_id) return token.content;
  }
  if (description.unknown_id < 0) return nullptr;
  return TokenTexts(description)[description.unknown_id];
}

absl::StatusOr<std::string> Dump(const OrderedJson& json) {
  try {
    return json.dump(2) + "\n";
  } catch (const OrderedJson::exception& error) {
    return absl::InvalidArgumentError(absl::StrFormat("a special token or pattern is not UTF-8 (%s)", error.what()));
  }
}

void AddName(OrderedJson& object, const char* key, const std::string& name) {
  if (!name.empty()) object[key] = name;
}

OrderedJson SpecialTokensMap(const TokenizerConfig& config) {
  OrderedJson map = OrderedJson::object();
  AddName(map, "bos_token", config.bos);
  AddName(map, "eos_token", config.eos);
  AddName(map, "pad_token", config.pad);
  return map;
}

}  // namespace

absl::StatusOr<std::string> WriteTokenizerJson(const BpeDescription& description) {
  ASSIGN_OR_RETURN(OrderedJson vocabulary, VocabularyJson(description));
  OrderedJson model = {{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", UnknownToken(description)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", false},
                       {"byte_fallback", false},
                       {"ignore_merges", description.ignore_merges}};
  model["vocab"] = std::move(vocabulary);
  model["merges"] = Merges(description);
  OrderedJson file = {{"version", "1.0"},
                      {"truncation", nullptr},
                      {"padding", nullptr},
                      {"added_tokens", AddedTokens(description)},
                      {"normalizer", Normalizer(description)},
                      {"pre_tokenizer", PreTokenizer(description)},
                      {"post_processor", nullptr},
                      {"decoder", ByteLevel({}, false)}};
  file["model"] = std::move(model);
  return Dump(file);
}

absl::StatusOr<std::string> WriteVocabJson(const BpeDescription& description) {
  ASSIGN_OR_RETURN(const OrderedJson vocabulary, VocabularyJson(description));
  return Dump(vocabulary);
}

std::string WriteMergesText(const BpeDescription& description) {
  const std::vector<std::string> texts = TokenTexts(description);
  std::string out = "#version: 0.2\n";
  for (const BpeDescription::Merge& merge : MergesInOrder(description)) {
    out.append(texts[merge.left]).append(" ").append(texts[merge.right]).append("\n");
  }
  return out;
}

std::string TokenizerConfigJson(const TokenizerConfig& config) {
  OrderedJson json = SpecialTokensMap(config);
  json["unk_token"] = nullptr;  // otherwise transformers 5 adds one of its own in folders of model_type qwen2
  if (!config.additional_special_tokens.empty()) json["additional_special_tokens"] = config.additional_special_tokens;
  json["clean_up_tokenization_spaces"] = false;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  AddName(json, "chat_template", config.chat_template);
  return json.dump(2) + "\n";
}

std::string SpecialTokensMapJson(const TokenizerConfig& config) { return SpecialTokensMap(config).dump(2) + "\n"; }

}  // namespace conclave::data
