// SPDX-License-Identifier: Apache-2.0
// `conclave eval`: loss, perplexity and bits per byte of a model folder on files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct EvalOptions {
  std::string dir;
  std::vector<std::string> files;
  int64_t sequence_length = 0;  // 0: that of the run that made the folder, else at most 1024
  int64_t batch = 8;
  std::string field = "text";
  std::string tokenizer;  // "": that of the folder
  std::string precision;
  bool json = false;
  int threads = 0;
};

absl::StatusOr<ExitCode> Eval(const EvalOptions& options);

}  // namespace conclave::launch
