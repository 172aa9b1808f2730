// SPDX-License-Identifier: Apache-2.0
// `conclave generate`: text from a model folder, token by token as it comes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct GenerateOptions {
  std::string dir;
  std::optional<std::string> prompt;      // none: standard input
  std::optional<std::string> prompt_ids;  // "1,2,3": no tokenizer is needed, ids are printed
  bool chat = false;
  int64_t max_tokens = 128;
  double temperature = 1, top_p = 1, min_p = 0;
  int64_t top_k = 0;
  int64_t seed = 0, sample = 0;
  std::string precision;
  int threads = 0;
};

absl::StatusOr<ExitCode> Generate(const GenerateOptions& options);

}  // namespace conclave::launch
