// SPDX-License-Identifier: Apache-2.0
// `conclave replay`: draws one sample of a run again, from the checkpoint and the config that it was drawn with, and
// compares it with what the run has kept, bit by bit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "parallel/job.h"

namespace conclave::launch {

struct ReplayOptions {
  std::string dir;  // run folder
  int64_t step = 0;
  int64_t sample = 0;  // of the step, in the order of its file; with `draw` its number among that prompt's
  std::optional<int64_t> draw;
  int64_t top = 3;  // likeliest tokens that are shown at each position
  int threads = 0;
};

// kDone if they are equal, else kFailed. On one rank.
absl::StatusOr<ExitCode> Replay(const ReplayOptions& options, parallel::Job& job);

}  // namespace conclave::launch
