// SPDX-License-Identifier: Apache-2.0
// `conclave score`: what responses that some program wrote to a file are worth, by the rewards of training.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "core/config/rl_config.h"
#include "launch/exit_code.h"

namespace conclave::launch {

struct ScoreOptions {
  std::string file;  // JSON lines, plain or compressed
  std::string out;   // path; "": the summary alone
  core::RewardConfig reward;
  int threads = 0;
  bool json = false;
};

// Copies each line, in order, with its `reward` and `reason`. A line has a text `response` and the expected `answer`, a
// text or a number; `prompt` and `finished` are used where they are. The output appears once it is complete.
absl::StatusOr<ExitCode> Score(const ScoreOptions& options);

}  // namespace conclave::launch
