// SPDX-License-Identifier: Apache-2.0
// `conclave tokenize --count`: how many tokens a tokenizer makes of files, and how fast.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "data/document_encoder.h"
#include "launch/exit_code.h"

namespace conclave::launch {

struct CountTokensOptions {
  std::string tokenizer = "bytes";  // as data.tokenizer
  std::vector<std::string> paths;   // as data.train.N.path
  data::RecordFormat format;
  int threads = 0;
};

// One line of numbers per path, of documents as they are trained on. A broken record is an error.
absl::StatusOr<ExitCode> CountTokens(const CountTokensOptions& options);

}  // namespace conclave::launch
