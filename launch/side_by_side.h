// SPDX-License-Identifier: Apache-2.0
// Stages of a recipe that do not wait for each other, at the same time: each as a process that trains it alone. Small
// models leave threads idle that two stages at once use, and what a stage ends with depends on its inputs alone.
#pragma once

#include <functional>

#include "absl/status/statusor.h"

#include "core/config/recipe.h"
#include "launch/exit_code.h"

namespace conclave::launch {

// Trains a stage with so many threads, in a process of its own.
using StageWork = std::function<ExitCode(const core::StagePlan& plan, int threads)>;

// Up to `jobs` at a time, which share `threads` (0: all processors); lines of their output begin with the name of the
// stage. A stage starts as soon as all that it reads is done. When one fails, or a signal comes, those that run save
// and stop. StopSignals are in force.
absl::StatusOr<ExitCode> RunSideBySide(const core::Recipe& recipe, int jobs, int threads, const StageWork& work);

}  // namespace conclave::launch
