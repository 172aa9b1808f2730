// SPDX-License-Identifier: Apache-2.0
// Does the method beat its controls? Each stage of reinforcement learning is compared with the model that it started
// from, and each control with the stages that had the same start; the difference in pass@1 is given in standard errors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/config/recipe.h"
#include "launch/report/stage_row.h"

namespace conclave::launch {

struct Comparison {
  enum class Outcome { kBetter, kWorse, kNoDifference };

  const StageRow* method = nullptr;
  const StageRow* other = nullptr;  // the control, or the start
  double difference = 0;            // of pass@1, method - other
  double error = 0;                 // of it, as if they had solved different problems: at most too large

  // A difference of less than two standard errors is none.
  Outcome outcome() const;
  // "better", "worse", "the control wins", "no clear difference"
  std::string Verdict() const;
};

// Of stages that have scores. Rows are those of the recipe.
std::vector<Comparison> CompareWithControls(const core::Recipe& recipe, const std::vector<StageRow>& rows);

}  // namespace conclave::launch
