// SPDX-License-Identifier: Apache-2.0
// A chart as inline SVG. It is drawn for the width of a phone and scales up to twice of it, so its text is read on
// both; colours are classes of the page's style sheet, which knows light and dark.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "launch/report/series.h"

namespace conclave::launch {

inline constexpr int kChartColors = 8;  // classes s0 to s7

// From so many points on a line is drawn faint, and means of neighbours above it.
inline constexpr size_t kManyPoints = 60;

struct ChartLine {
  enum class Form {
    kLine,    // a value at each step
    kPoints,  // measured now and then: dots with error bars, joined
  };
  enum class Stroke { kSolid, kDashed };
  std::string name;  // of the legend and of tooltips
  int color = 0;     // beyond the last they begin again
  Form form = Form::kLine;
  Stroke stroke = Stroke::kSolid;
  Series series;
};

struct Chart {
  std::string title;
  std::vector<ChartLine> lines;
  std::optional<double> floor = {}, ceiling = {};  // what the axis of values shows at least
};

// A <figure> with the title, and "no data" where no line has a finite point.
std::string ChartFigure(const Chart& chart);

// Names beside samples of their lines: one for several charts whose lines have the same colours.
std::string ChartLegend(const std::vector<ChartLine>& lines);

}  // namespace conclave::launch
