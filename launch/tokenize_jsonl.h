// SPDX-License-Identifier: Apache-2.0
// `conclave tokenize --jsonl`: what a tokenizer makes of the lines of a file, for people and programs that compare
// tokenizers.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct TokenizeJsonlOptions {
  std::string tokenizer = "bytes";  // as data.tokenizer
  std::string jsonl;                // path
  std::string out;                  // path; "": standard output
};

// Copies each line that has a text `input`, in order, with `ids` (added tokens recognised, none added) and `decoded`
// (special tokens kept). Lines without it are left out. The output appears once it is complete.
absl::StatusOr<ExitCode> TokenizeJsonl(const TokenizeJsonlOptions& options);

}  // namespace conclave::launch
