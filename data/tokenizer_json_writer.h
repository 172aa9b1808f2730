// SPDX-License-Identifier: Apache-2.0
// The files that describe a tokenizer to other programs: tokenizer.json of the tokenizers library, what transformers
// wants beside it, and the older pair vocab.json and merges.txt of GPT-2. Tokens are written in GPT-2's alphabet, added
// ones as they are.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"

namespace conclave::data {

// An error where the file cannot say what the description means: two tokens that are written alike, a text that is not
// UTF-8.
absl::StatusOr<std::string> WriteTokenizerJson(const BpeDescription& description);

absl::StatusOr<std::string> WriteVocabJson(const BpeDescription& description);
std::string WriteMergesText(const BpeDescription& description);

// Names; "" or none where there is none.
struct TokenizerConfig {
  std::string bos, eos, pad;
  std::vector<std::string> additional_special_tokens;
  std::string chat_template;  // Jinja
};
std::string TokenizerConfigJson(const TokenizerConfig& config);   // tokenizer_config.json
std::string SpecialTokensMapJson(const TokenizerConfig& config);  // special_tokens_map.json

}  // namespace conclave::data
