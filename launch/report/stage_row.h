// SPDX-License-Identifier: Apache-2.0
// What a stage is, cost and solves: a row of the tables, read from the stage's folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/recipe.h"
#include "launch/stage_scores.h"

namespace conclave::launch {

struct StageRow {
  std::string name, from;
  bool control = false;
  bool done = false;       // trained to its last step
  std::string model_type;  // these three of what is done
  int64_t params = 0, active_params = 0;
  double seconds = 0;  // of its steps
  double flops = 0;    // of updates and of generated tokens, by the formulas of ModelGraph
  std::optional<StageScores> scores = {};
};

// True if the newest checkpoint is that of the last step.
absl::StatusOr<bool> IsDone(const core::Config& config);

absl::StatusOr<std::vector<StageRow>> ReadRows(const core::Recipe& recipe);

}  // namespace conclave::launch
