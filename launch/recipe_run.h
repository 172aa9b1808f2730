// SPDX-License-Identifier: Apache-2.0
// `conclave train` on a file of stages: each is a run of its own, in stages/NAME of the recipe's folder, and then
// solves the held-out problems. What is done is said and skipped, so a killed recipe goes on where it was.
#pragma once

#include "absl/status/statusor.h"

#include "core/config/recipe.h"
#include "launch/exit_code.h"
#include "launch/train.h"
#include "parallel/job.h"

namespace conclave::launch {

// Collective. StopSignals are in force, unless the run is dry.
absl::StatusOr<ExitCode> RunRecipe(const core::Recipe& recipe, const TrainOptions& options, parallel::Job& job);

}  // namespace conclave::launch
