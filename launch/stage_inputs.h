// SPDX-License-Identifier: Apache-2.0
// What a stage of a recipe is made of: the model it starts from, its teacher, samples that another stage wrote. A stage
// remembers which ones these were, so that a recipe never mixes what an input was with what it has become since.
#pragma once

#include "absl/status/status.h"

#include "core/config/recipe.h"

namespace conclave::launch {

// Whether `plan` reads what `input` makes: as the model it starts from, as its teacher, or as its data.
bool ReadsStage(const core::StagePlan& plan, const core::StagePlan& input);

// Of a stage whose inputs are there and whose folder exists: an error that names the inputs which are not those that
// inputs.json of the folder remembers; where there is none it is written.
absl::Status CheckInputs(const core::Recipe& recipe, const core::StagePlan& plan);

}  // namespace conclave::launch
