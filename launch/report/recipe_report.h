// SPDX-License-Identifier: Apache-2.0
// What a recipe tells of its stages: a picture of them, a table, summary.json, one metrics.jsonl, report.html. All of
// it is read from the folders of the stages, so it is the same whoever ran them, in however many processes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/recipe.h"
#include "launch/report/stage_row.h"

namespace conclave::launch {

// Stages as a tree of who starts from whom; `present` is marked, what is done has its score.
std::string RecipePicture(const std::vector<StageRow>& rows, std::string_view present);

// A line per stage, controls below. Empty if nothing is done.
std::string RecipeTable(const std::vector<StageRow>& rows);

// {"stages": [{"name", "pass_at_1", "stderr", "pass_at_8", "greedy", "length", "seconds", "flops"}, ...], "controls":
// [the same]}: those that are done; null for scores that a recipe without problems does not have.
std::string SummaryJson(const std::vector<StageRow>& rows);

// Brings config.yaml, metrics.jsonl (lines of all stages, each with its "stage" first), summary.json and report.html of
// the recipe's folder up to date. Processes that run stages of it side by side wait for each other.
absl::Status StoreReport(const core::Recipe& recipe);

}  // namespace conclave::launch
