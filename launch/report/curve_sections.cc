// SPDX-License-Identifier: Apache-2.0
// Figures over steps: stages of reinforcement learning side by side in one chart for each figure, losses and expert
// load in one small chart for each stage.
#include <algorithm>
#include <cmath>
#include <utility>

#include "launch/report/chart.h"
#include "launch/report/sections.h"

namespace conclave::launch {
namespace {

std::string Note(const std::string& text) { return "<p class=\"note\">" + text + "</p>\n"; }

// Why there are two lines of a colour, if there are.
std::string NoteOnMeans(const Report& report, const char* figure) {
  const bool many = std::any_of(report.histories.begin(), report.histories.end(), [&](const StageHistory& history) {
    return history.Figure(figure).size() >= kManyPoints;
  });
  return many ? Note("Where steps are many, faint is each of them, and bold the mean of neighbours.") : "";
}

// Scores at the end, and what the stage began with, belong to the curve of what was measured between.
Series PassAt1(const Report& report, size_t stage) {
  Series series;
  for (size_t start = 0; start < report.rows.size(); ++start) {
    const StageRow& row = report.rows[start];
    if (row.name.empty() || row.name != report.rows[stage].from || !row.scores) continue;
    series.push_back({.x = 0, .y = row.scores->pass_at_1.mean, .error = row.scores->pass_at_1.error});
  }
  const Series& measured = report.histories[stage].Figure("pass_at_1");
  series.insert(series.end(), measured.begin(), measured.end());
  return series;
}

struct NamedFigure {
  const char* figure;
  const char* title;
};

std::vector<ChartLine> LinesOf(const Report& report, const std::vector<size_t>& stages, const std::string& figure) {
  std::vector<ChartLine> lines;
  for (const size_t stage : stages) {
    const bool dashed = report.rows[stage].control || lines.size() >= kChartColors;
    ChartLine line{.name = report.NameOf(stage),
                   .color = static_cast<int>(lines.size()),
                   .stroke = dashed ? ChartLine::Stroke::kDashed : ChartLine::Stroke::kSolid,
                   .series = report.histories[stage].Figure(figure)};
    if (figure == "pass_at_1") {
      line.form = ChartLine::Form::kPoints;
      line.series = PassAt1(report, stage);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

bool HaveData(const std::vector<ChartLine>& lines) {
  return std::any_of(lines.begin(), lines.end(), [](const ChartLine& line) { return !line.series.empty(); });
}

std::string RewardSection(const Report& report) {
  std::vector<size_t> stages;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    if (!report.histories[stage].Figure("reward").empty()) stages.push_back(stage);
  }
  if (stages.empty()) return "";
  constexpr NamedFigure kFigures[] = {{"reward", "reward of the samples that it learns from"},
                                      {"pass_at_1", "pass@1 on held-out problems"},
                                      {"length", "tokens of a response"},
                                      {"entropy", "entropy of the next token, nats"}};
  std::string charts, legend;
  for (const auto& [figure, title] : kFigures) {
    Chart chart{.title = title, .lines = LinesOf(report, stages, figure), .floor = 0};
    if (!HaveData(chart.lines)) continue;
    if (legend.empty() && !report.recipe.IsOneRun()) legend = ChartLegend(chart.lines);
    charts += ChartFigure(chart);
  }
  const bool starts = std::any_of(stages.begin(), stages.end(), [&](size_t stage) {
    const Series series = PassAt1(report, stage);
    return !series.empty() && series.front().x == 0;
  });
  return Section("Reinforcement learning",
                 legend + "<div class=\"charts\">" + charts + "</div>\n" + NoteOnMeans(report, "reward") +
                     (starts ? Note("At step 0 stands the pass@1 of the model that a stage starts from.") : ""));
}

std::string LossSection(const Report& report) {
  std::string charts;
  bool validated = false;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    const StageHistory& history = report.histories[stage];
    if (history.Figure("loss").empty()) continue;
    Chart chart{.title = report.NameOf(stage),
                .lines = {{.name = "loss", .color = 0, .series = history.Figure("loss")}}};
    if (!history.Figure("validation_loss").empty()) {
      validated = true;
      chart.lines.push_back({.name = "held-out loss",
                             .color = 1,
                             .form = ChartLine::Form::kPoints,
                             .series = history.Figure("validation_loss")});
    }
    charts += ChartFigure(chart);
  }
  if (charts.empty()) return "";
  const std::string legend =
      validated ? ChartLegend({{.name = "loss", .color = 0}, {.name = "held-out loss", .color = 1}}) : std::string();
  return Section("Loss, nats per token",
                 legend + "<div class=\"charts\">" + charts + "</div>\n" + NoteOnMeans(report, "loss"));
}

std::string LoadSection(const Report& report) {
  double most = 1;
  for (const StageHistory& history : report.histories) {
    for (const SeriesPoint& point : history.Figure("load_imbalance")) {
      if (std::isfinite(point.y)) most = std::max(most, point.y);
    }
  }
  std::string charts;
  for (size_t stage = 0; stage < report.rows.size(); ++stage) {
    const Series& load = report.histories[stage].Figure("load_imbalance");
    if (load.empty()) continue;
    charts += ChartFigure({.title = report.NameOf(stage),
                           .lines = {{.name = "load", .color = 2, .series = load}},
                           .floor = 1,
                           .ceiling = most});
  }
  if (charts.empty()) return "";
  return Section(
      "Expert load",
      "<div class=\"charts\">" + charts + "</div>\n" +
          Note("Tokens of the busiest expert against those of a mean one, in the worst block: 1 is balance."));
}

}  // namespace

std::string CurveSections(const Report& report) {
  return RewardSection(report) + LossSection(report) + LoadSection(report);
}

}  // namespace conclave::launch
