// SPDX-License-Identifier: Apache-2.0
// Reads the tokenizer.json of the tokenizers library, as far as it describes byte-level BPE. What we do not do is
// refused by name: a tokenizer that is nearly right is worse than none. The file is read by events, so that a
// vocabulary of 128,000 entries never becomes a JSON tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"

namespace conclave::data {

struct TokenizerJson {
  BpeDescription description;
  std::vector<std::string> template_tokens;  // names that the post-processor's template puts before a text: bos
};

// `name` (of the file) begins every error.
absl::StatusOr<TokenizerJson> ParseTokenizerJson(std::string_view text, const std::string& name);

}  // namespace conclave::data
