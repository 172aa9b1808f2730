// SPDX-License-Identifier: Apache-2.0
// report.html: a run or a recipe on one page that needs neither network nor scripts, in light and dark. A function of
// the files in the folders of the stages: written anew whenever they change, the same for the same files.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/recipe.h"
#include "launch/report/sections.h"
#include "launch/report/stage_row.h"

namespace conclave::launch {

absl::StatusOr<Report> ReadReport(const core::Recipe& recipe, std::vector<StageRow> rows);

// The whole page; well-formed XML, too.
std::string ReportPage(const Report& report);

// Replaces report.html in the folder of the recipe at one instant.
absl::Status StorePage(const core::Recipe& recipe);

}  // namespace conclave::launch
