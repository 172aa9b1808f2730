// SPDX-License-Identifier: Apache-2.0
#include "launch/report/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"

#include "launch/report/axis.h"
#include "launch/report/html.h"

namespace conclave::launch {
namespace {

constexpr double kWidth = 360, kHeight = 206;  // of the view box; a unit is a pixel on a phone
constexpr double kLeft = 42, kRight = 350, kTop = 8, kBottom = 176;
constexpr int kMostTicksX = 7, kMostTicksY = 6;
constexpr size_t kMostPoints = 400, kMostTooltips = 24;
constexpr size_t kMeans = 40;

std::string ColorClass(const ChartLine& line) {
  const bool dashed = line.stroke == ChartLine::Stroke::kDashed;
  return absl::StrFormat("s%d%s", line.color % kChartColors, dashed ? " dashed" : "");
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();

  void Add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool IsEmpty() const { return !(low <= high); }
};

class Plot {
 public:
  Plot(const Axis& x, const Axis& y) : x_(x), y_(y) {}

  double X(double value) const { return kLeft + x_.Share(value) * (kRight - kLeft); }
  double Y(double value) const { return kBottom - std::clamp(y_.Share(value), 0.0, 1.0) * (kBottom - kTop); }

  std::string Axes() const {
    std::string svg;
    for (const double tick : y_.ticks) {
      svg += absl::StrFormat(
          "<line class=\"grid\" x1=\"%.0f\" x2=\"%.0f\" y1=\"%.1f\" y2=\"%.1f\"/>"
          "<text class=\"y\" x=\"%.0f\" y=\"%.1f\">%s</text>\n",
          kLeft, kRight, Y(tick), Y(tick), kLeft - 6, Y(tick) + 4, y_.Text(tick));
    }
    for (const double tick : x_.ticks) {
      // Text in the middle of a tick at the border would be cut off.
      const double at = std::clamp(X(tick), kLeft, kWidth - 4 - 3.2 * static_cast<double>(x_.Text(tick).size()));
      svg += absl::StrFormat("<text class=\"x\" x=\"%.1f\" y=\"%.0f\">%s</text>\n", at, kBottom + 16, x_.Text(tick));
    }
    return svg;
  }

  // A line for each run of points that are numbers; one alone is a dot.
  std::string Path(const Series& series, const char* css) const {
    std::string svg, points;
    int count = 0;
    const auto end = [&] {
      if (count == 1) svg += absl::StrFormat("<circle class=\"dot\" cx=\"%s\" r=\"2.5\"/>", CenterOf(points));
      if (count > 1) svg += absl::StrFormat("<polyline class=\"%s\" points=\"%s\"/>", css, points);
      points.clear();
      count = 0;
    };
    for (const SeriesPoint& point : series) {
      if (!std::isfinite(point.y)) {
        end();
        continue;
      }
      points += absl::StrFormat("%s%.1f,%.1f", count == 0 ? "" : " ", X(point.x), Y(point.y));
      ++count;
    }
    end();
    return svg;
  }

  std::string ErrorBars(const Series& series) const {
    std::string svg;
    for (const SeriesPoint& point : series) {
      if (!std::isfinite(point.y)) continue;
      svg += absl::StrFormat("<line class=\"bar\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", X(point.x),
                             X(point.x), Y(point.y - point.error), Y(point.y + point.error));
      svg += absl::StrFormat("<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>", X(point.x), Y(point.y));
    }
    return svg;
  }

  // Wide enough to be found with a finger; seen while pointed at.
  std::string Tooltips(const std::string& name, const Series& series) const {
    std::string svg;
    for (const SeriesPoint& point : series) {
      if (!std::isfinite(point.y)) continue;
      const std::string error = point.error > 0 ? absl::StrFormat(" +- %.3g", point.error) : "";
      svg += absl::StrFormat(
          "<circle class=\"tip\" cx=\"%.1f\" cy=\"%.1f\" r=\"6\"><title>%s, step %.0f: %.4g%s</title></circle>",
          X(point.x), Y(point.y), name, point.x, point.y, error);
    }
    return svg;
  }

 private:
  // `point`: "x,y"; completes cx="x" cy="y".
  static std::string CenterOf(const std::string& point) {
    const size_t comma = point.find(',');
    return absl::StrFormat("%s\" cy=\"%s", point.substr(0, comma), point.substr(comma + 1));
  }

  const Axis x_, y_;
};

std::string LineSvg(const Plot& plot, const ChartLine& line) {
  const size_t count = line.series.size();
  std::string svg = absl::StrFormat("<g class=\"%s\">", ColorClass(line));
  Series shown = line.series;
  if (line.form == ChartLine::Form::kPoints) {
    svg += plot.Path(Thinned(shown, kMostPoints), "line") + plot.ErrorBars(Thinned(shown, kMostPoints));
  } else if (count >= kManyPoints) {
    shown = Means(line.series, kMeans);
    svg += plot.Path(Thinned(line.series, kMostPoints), "faint") + plot.Path(shown, "line");
  } else {
    svg += plot.Path(shown, "line");
  }
  return svg + plot.Tooltips(Escaped(line.name), Thinned(shown, kMostTooltips)) + "</g>\n";
}

// What a line looks like at its last step, in words.
std::string Description(const Chart& chart) {
  std::string text = chart.title;
  for (const ChartLine& line : chart.lines) {
    if (line.series.empty()) continue;
    text += absl::StrFormat("; %s: %.4g at step %.0f", line.name, line.series.back().y, line.series.back().x);
  }
  return text;
}

std::string ChartSvg(const Chart& chart) {
  Range x, y;
  for (const ChartLine& line : chart.lines) {
    for (const SeriesPoint& point : line.series) {
      if (!std::isfinite(point.y)) continue;
      x.Add(point.x);
      y.Add(point.y - point.error);
      y.Add(point.y + point.error);
    }
  }
  std::string svg = absl::StrFormat("<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" aria-label=\"%s\">\n",
                                    kWidth, kHeight, Escaped(Description(chart)));
  if (y.IsEmpty()) {
    return svg +
           absl::StrFormat("<text class=\"x\" x=\"%.0f\" y=\"%.0f\">no data</text></svg>\n", kWidth / 2, kHeight / 2);
  }
  if (chart.floor) y.Add(*chart.floor);
  if (chart.ceiling) y.Add(*chart.ceiling);
  const Plot plot(ExactAxis(std::min(x.low, 0.0), x.high, kMostTicksX), RoundAxis(y.low, y.high, kMostTicksY));
  svg += plot.Axes();
  for (const ChartLine& line : chart.lines) svg += LineSvg(plot, line);
  return svg + absl::StrFormat("<text class=\"x\" x=\"%.0f\" y=\"%.0f\">step</text></svg>\n", (kLeft + kRight) / 2,
                               kHeight - 2);
}

}  // namespace

std::string ChartFigure(const Chart& chart) {
  return absl::StrFormat("<figure><figcaption>%s</figcaption>%s</figure>\n", Escaped(chart.title), ChartSvg(chart));
}

std::string ChartLegend(const std::vector<ChartLine>& lines) {
  std::string html = "<ul class=\"legend\">";
  for (const ChartLine& line : lines) {
    html += absl::StrFormat(
        "<li><svg class=\"key\" viewBox=\"0 0 24 8\"><g class=\"%s\"><polyline class=\"line\" points=\"1,4 23,4\"/></g>"
        "</svg>%s</li>",
        ColorClass(line), Escaped(line.name));
  }
  return html + "</ul>\n";
}

}  // namespace conclave::launch
