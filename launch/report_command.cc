// SPDX-License-Identifier: Apache-2.0
#include "launch/report_command.h"

#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "core/config/recipe.h"
#include "launch/banner.h"
#include "launch/report/recipe_text.h"
#include "launch/report/report_page.h"
#include "launch/run_folder.h"

namespace conclave::launch {

absl::StatusOr<ExitCode> MakeReport(const ReportOptions& options) {
  const RunFolder folder = RunFolder::At(options.dir);
  if (!core::FileExists(folder.ConfigPath())) {
    return absl::NotFoundError(options.dir + " is not a run folder: it has no config.yaml");
  }
  // A folder may have been moved since.
  const std::vector<std::string> overrides = {"run.dir=" + nlohmann::json(options.dir).dump()};
  ASSIGN_OR_RETURN(const core::Recipe recipe, core::LoadRecipe(folder.ConfigPath(), overrides));
  RETURN_IF_ERROR(StorePage(recipe));
  if (!recipe.IsOneRun()) {
    ASSIGN_OR_RETURN(std::vector<StageRow> rows, ReadRows(recipe));
    ASSIGN_OR_RETURN(const Report report, ReadReport(recipe, std::move(rows)));
    if (const std::string text = RecipeText(report, PlotCharactersOfLocale()); !text.empty()) PrintLine(text);
  }
  PrintLabelled("report", folder.ReportPath());
  return ExitCode::kDone;
}

}  // namespace conclave::launch
