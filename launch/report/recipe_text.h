// SPDX-License-Identifier: Apache-2.0
// What a recipe tells in a terminal: the table of its stages, curves of reinforcement learning, and the last answers to
// the same problems, stage by stage.
#pragma once

#include <string>

#include "launch/loss_curve.h"
#include "launch/report/sections.h"

namespace conclave::launch {

// Reward and response length of each stage that has them, side by side in 72 columns.
std::string RecipeCurves(const Report& report, PlotCharacters characters);

// A line for each stage below each problem. Empty without samples.
std::string RecipeSamples(const Report& report);

// All of it. Empty if no stage is done.
std::string RecipeText(const Report& report, PlotCharacters characters);

}  // namespace conclave::launch
