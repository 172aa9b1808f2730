// SPDX-License-Identifier: Apache-2.0
#include "launch/report/report_page.h"

#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "launch/report/html.h"
#include "launch/report/report_style.h"
#include "launch/run_folder.h"

namespace conclave::launch {

absl::StatusOr<Report> ReadReport(const core::Recipe& recipe, std::vector<StageRow> rows) {
  Report report{.recipe = recipe, .rows = std::move(rows)};
  for (size_t stage = 0; stage < recipe.stages.size(); ++stage) {
    ASSIGN_OR_RETURN(StageHistory history, ReadHistory(recipe.stages[stage].config, report.rows[stage].scores));
    report.histories.push_back(std::move(history));
  }
  return report;
}

std::string ReportPage(const Report& report) {
  // The policy allows nothing from elsewhere, and no script: what is missed by escaping does nothing.
  return absl::StrFormat(
             "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
             "img-src data:\"/>\n<link rel=\"icon\" href=\"data:,\"/>\n<title>%s</title>\n<style>%s</style>\n</head>\n"
             "<body>\n<main>\n",
             Escaped(report.recipe.dir), kReportStyle) +
         Headline(report) + ComparisonSection(report) + PictureSection(report) + ScoreSection(report) +
         CurveSections(report) + SampleSection(report) + CostSection(report) + CommandSection(report) +
         SettingsSection(report) + "</main>\n</body>\n</html>\n";
}

absl::Status StorePage(const core::Recipe& recipe) {
  ASSIGN_OR_RETURN(std::vector<StageRow> rows, ReadRows(recipe));
  ASSIGN_OR_RETURN(const Report report, ReadReport(recipe, std::move(rows)));
  return core::ReplaceTextFile(RunFolder::At(recipe.dir).ReportPath(), ReportPage(report));
}

}  // namespace conclave::launch
