// SPDX-License-Identifier: Apache-2.0
// What a tiktoken file leaves out: how text is cut into words, and the special tokens. Both belong to the vocabulary,
// which is recognised by its size and form.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/bpe_description.h"

namespace conclave::data {

// How a family of models cuts text. Null if the name is unknown.
const std::vector<SplitRule>* FindSplitRules(std::string_view family);
// "gpt2, llama3, ...", for messages.
std::string KnownFamilies();

enum class TiktokenForm { kBytes, kByteAlphabet };

struct KnownVocabulary {
  std::string_view family;  // of FindSplitRules
  int64_t num_tokens;       // lines of the file
  TiktokenForm form;
  std::vector<AddedToken> added_tokens;
};

// Null if there is none of this size and form.
const KnownVocabulary* FindKnownVocabulary(int64_t num_tokens, TiktokenForm form);

}  // namespace conclave::data
