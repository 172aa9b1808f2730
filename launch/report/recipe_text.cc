// SPDX-License-Identifier: Apache-2.0
#include "launch/report/recipe_text.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "core/base/quoted.h"
#include "launch/report/recipe_report.h"

namespace conclave::launch {
namespace {

constexpr int kColumns = 26, kLines = 3;  // of one curve; the scale beside it takes 9 columns
constexpr int kScaleColumns = 9, kGap = 2;
constexpr size_t kShownBytes = 60;  // of a response

std::vector<double> ValuesOf(const Series& series) {
  std::vector<double> values;
  for (const SeriesPoint& point : series) values.push_back(point.y);
  return values;
}

std::vector<std::string> CurveLines(const Series& series, PlotCharacters characters) {
  const std::string text = LossCurve(ValuesOf(series), kColumns, kLines, characters);
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) lines.emplace_back(line);
  lines.resize(kLines);
  return lines;
}

// "pass@1 0.515 -> 0.941": of the first and the last evaluation during the stage.
std::string PassText(const Series& series) {
  if (series.empty()) return "";
  std::string text = absl::StrFormat("; pass@1 %.3f", series.front().y);
  if (series.size() > 1) text += absl::StrFormat(" -> %.3f", series.back().y);
  return text;
}

std::string StageCurves(const std::string& name, const StageHistory& history, PlotCharacters characters) {
  const Series &reward = history.Figure("reward"), &length = history.Figure("length");
  const std::vector<std::string> left = CurveLines(reward, characters), right = CurveLines(length, characters);
  if (left[0].empty()) return "";
  // Fewer steps than columns leave columns empty, which no byte of the line says: its characters have several.
  const int drawn = std::min(kColumns, static_cast<int>(reward.size()));
  const std::string gap(static_cast<size_t>(kColumns - drawn + kGap), ' ');
  const std::string title = name + ": reward" + PassText(history.Figure("pass_at_1"));
  std::string text = absl::StrFormat("%-*s length\n", kScaleColumns + kColumns + kGap + 8, title);
  for (int line = 0; line < kLines; ++line) {
    std::string row = left[line] + gap + right[line];
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

// The end of a long response, where the answer stands.
std::string ResponseText(std::string_view response) {
  if (response.size() <= kShownBytes) return core::Quoted(response);
  return "..." + core::Quoted(response.substr(response.size() - kShownBytes));
}

std::string ProblemLines(const Report& report, const LoggedSample& problem) {
  std::string text = absl::StrFormat("%s answer %s\n", core::Quoted(problem.prompt), core::Quoted(problem.answer));
  for (size_t stage = 0; stage < report.histories.size(); ++stage) {
    const std::vector<SampleLogLine>& lines = report.histories[stage].samples;
    if (lines.empty()) continue;
    for (const LoggedSample& sample : lines.back().samples) {
      if (sample.prompt != problem.prompt) continue;
      text += absl::StrFormat("  %-20s %-5s  %s\n", report.NameOf(stage), sample.solved ? "right" : "wrong",
                              ResponseText(sample.response));
    }
  }
  return text;
}

}  // namespace

std::string RecipeCurves(const Report& report, PlotCharacters characters) {
  std::string text;
  for (size_t stage = 0; stage < report.histories.size(); ++stage) {
    text += StageCurves(report.NameOf(stage), report.histories[stage], characters);
  }
  return text;
}

std::string RecipeSamples(const Report& report) {
  std::vector<std::string> prompts;
  std::string text;
  for (const StageHistory& history : report.histories) {
    if (history.samples.empty()) continue;
    for (const LoggedSample& sample : history.samples.back().samples) {
      if (std::find(prompts.begin(), prompts.end(), sample.prompt) != prompts.end()) continue;
      prompts.push_back(sample.prompt);
      text += ProblemLines(report, sample);
    }
  }
  return text;
}

std::string RecipeText(const Report& report, PlotCharacters characters) {
  const std::string table = RecipeTable(report.rows);
  if (table.empty()) return "";
  std::string text = "\n" + table;
  for (const std::string& part : {RecipeCurves(report, characters), RecipeSamples(report)}) {
    if (!part.empty()) text += "\n\n" + part;
  }
  return text;
}

}  // namespace conclave::launch
