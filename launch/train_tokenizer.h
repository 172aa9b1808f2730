// SPDX-License-Identifier: Apache-2.0
// `conclave tokenize --train`: a tokenizer learned from files, in a folder that transformers loads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct TrainTokenizerOptions {
  std::vector<std::string> files;
  int64_t vocab_size = 0;
  std::vector<std::string> special_tokens = {"<|endoftext|>"};  // the first one ends a document
  std::string field = "text";
  std::string pattern = "gpt2";  // a family of data/known_vocabularies.h, or a regular expression
  int threads = 0;
  std::string out;  // folder; must not have a tokenizer yet
};

absl::StatusOr<ExitCode> TrainTokenizer(const TrainTokenizerOptions& options);

}  // namespace conclave::launch
