// SPDX-License-Identifier: Apache-2.0
// Patterns and ids as published with the models (shared facts: OpenAI's tiktoken, Llama 3, Qwen 2, DeepSeek-V3).
#include "data/known_vocabularies.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace conclave::data {
namespace {

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kO200kPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kDeepSeekNumbers[] = R"(\p{N}{1,3})";
constexpr char kDeepSeekIdeographs[] = R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr char kDeepSeekWords[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using Families = std::vector<std::pair<std::string_view, std::vector<SplitRule>>>;

const Families& AllFamilies() {
  static const Families families = {
      {"gpt2", {{.regex = kGpt2Pattern}}},
      {"llama3", {{.regex = kLlama3Pattern}}},  // and OpenAI's cl100k
      {"qwen2", {{.regex = kQwen2Pattern}}},
      {"o200k", {{.regex = kO200kPattern}}},
      {"deepseek_v3", {{.regex = kDeepSeekNumbers}, {.regex = kDeepSeekIdeographs}, {.regex = kDeepSeekWords}}}};
  return families;
}

AddedToken Special(std::string content, int32_t id) {
  return {.content = std::move(content), .id = id, .special = true};
}

std::vector<AddedToken> Llama3Specials() {
  std::vector<AddedToken> tokens;
  const char* const named[] = {"<|begin_of_text|>",
                               "<|end_of_text|>",
                               "<|reserved_special_token_0|>",
                               "<|reserved_special_token_1|>",
                               "<|reserved_special_token_2|>",
                               "<|reserved_special_token_3|>",
                               "<|start_header_id|>",
                               "<|end_header_id|>",
                               "<|reserved_special_token_4|>",
                               "<|eot_id|>"};
  int32_t id = 128000;
  for (const char* name : named) tokens.push_back(Special(name, id++));
  for (int number = 5; id < 128256; ++number) {
    tokens.push_back(Special(absl::StrFormat("<|reserved_special_token_%d|>", number), id++));
  }
  return tokens;
}

// Names with U+FF5C for bars and U+2581 for blanks.
std::vector<AddedToken> DeepSeekV3Specials() {
  const std::string bar = "\xEF\xBD\x9C", blank = "\xE2\x96\x81";
  std::vector<AddedToken> tokens = {Special("<" + bar + "begin" + blank + "of" + blank + "sentence" + bar + ">", 0),
                                    Special("<" + bar + "end" + blank + "of" + blank + "sentence" + bar + ">", 1),
                                    Special("<" + bar + blank + "pad" + blank + bar + ">", 2)};
  int32_t id = 128000;
  for (int number = 0; number < 798; ++number) {
    tokens.push_back(
        Special(absl::StrFormat("<%splace%sholder%sno%s%d%s>", bar, blank, blank, blank, number, bar), id++));
  }
  for (const char* tag : {"<think>", "</think>"}) tokens.push_back({.content = tag, .id = id++});
  for (const char* name : {"hole", "begin", "end"})
    tokens.push_back(Special("<" + bar + "fim" + blank + name + bar + ">", id++));
  for (const char* name : {"User", "Assistant"}) tokens.push_back(Special("<" + bar + name + bar + ">", id++));
  tokens.push_back(Special("<|EOT|>", id));
  return tokens;
}

std::vector<KnownVocabulary> MakeVocabularies() {
  const auto bytes = TiktokenForm::kBytes;
  return {{"gpt2", 50256, bytes, {Special("<|endoftext|>", 50256)}},
          {"llama3",
           100256,
           bytes,
           {Special("<|endoftext|>", 100257), Special("<|fim_prefix|>", 100258), Special("<|fim_middle|>", 100259),
            Special("<|fim_suffix|>", 100260), Special("<|endofprompt|>", 100276)}},
          {"o200k", 199998, bytes, {Special("<|endoftext|>", 199999), Special("<|endofprompt|>", 200018)}},
          {"llama3", 128000, bytes, Llama3Specials()},
          {"qwen2",
           151643,
           bytes,
           {Special("<|endoftext|>", 151643), Special("<|im_start|>", 151644), Special("<|im_end|>", 151645)}},
          {"deepseek_v3", 128000, TiktokenForm::kByteAlphabet, DeepSeekV3Specials()}};
}

}  // namespace

const std::vector<SplitRule>* FindSplitRules(std::string_view family) {
  for (const auto& [name, rules] : AllFamilies()) {
    if (name == family) return &rules;
  }
  return nullptr;
}

std::string KnownFamilies() {
  std::string list;
  for (const auto& [name, rules] : AllFamilies()) list.append(list.empty() ? "" : ", ").append(name);
  return list;
}

const KnownVocabulary* FindKnownVocabulary(int64_t num_tokens, TiktokenForm form) {
  static const std::vector<KnownVocabulary> vocabularies = MakeVocabularies();
  for (const KnownVocabulary& known : vocabularies) {
    if (known.num_tokens == num_tokens && known.form == form) return &known;
  }
  return nullptr;
}

}  // namespace conclave::data
