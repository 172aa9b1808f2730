// SPDX-License-Identifier: Apache-2.0
// Reads the vocabulary form of OpenAI's tiktoken, which Llama 3 uses, too: per line a token in base64, a blank, its
// rank. Any two neighbours merge whose bytes together are a token, the lowest rank first.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "data/bpe_description.h"

namespace conclave::data {

// Whether the text looks like such a file.
bool IsTiktoken(std::string_view text);

// Only vocabularies that are known by their size can be used: the file itself does not say how text is cut. Some
// DeepSeek-V3 files hold GPT-2's byte alphabet instead of bytes; they are told apart. `name` (of the file) begins every
// error.
absl::StatusOr<BpeDescription> ParseTiktoken(std::string_view text, const std::string& name);

}  // namespace conclave::data
