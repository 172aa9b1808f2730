// SPDX-License-Identifier: Apache-2.0
// What the final model of a stage solves of the held-out problems of its tasks and files: the same problems, draws and
// judge for all stages of a recipe, so that rows of its table compare. Kept in evaluation.json of the folder of the
// stage, beside the settings it was made with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/sample_log.h"
#include "parallel/job.h"
#include "rl/evaluation.h"

namespace conclave::launch {

struct StageScores {
  rl::Estimate pass_at_1, pass_at_8, majority;  // of 8 samples at eval.temperature
  rl::Estimate length;                          // tokens of a response
  rl::Estimate greedy;                          // share solved by the likeliest tokens
  std::vector<LoggedSample> samples = {};       // of the 8 the first, to the first problems
};

// "pass@1 0.412 +- 0.015, pass@8 ..., greedy ..., length 13.2"
std::string ScoresText(const StageScores& scores);

// Those in the folder of a stage, if they are of the model and the settings that it has now.
absl::StatusOr<std::optional<StageScores>> ReadScores(const core::Config& config);

// The same, made and kept if they are missing; none without such problems. Collective. The stage is done.
absl::StatusOr<std::optional<StageScores>> MakeScores(const core::Config& config, int threads, parallel::Job& job);

}  // namespace conclave::launch
