// SPDX-License-Identifier: Apache-2.0
// Charts of series as they come: empty, of one point, constant, with gaps, out of all range.
#include "launch/report/chart.h"

#include <cmath>
#include <limits>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/report/markup.h"

namespace conclave::launch {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

int64_t CountOf(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

std::string FigureOf(Series series, ChartLine::Form form = ChartLine::Form::kLine) {
  const std::string figure = ChartFigure({.title = "t", .lines = {{.name = "n", .form = form, .series = series}}});
  EXPECT_EQ(MarkupError(figure), "") << figure;
  return figure;
}

// The text of no number stands where a coordinate belongs.
void ExpectFiniteCoordinates(const std::string& figure) {
  for (const char* key : {"points=\"", " x1=\"", " y1=\"", " y2=\"", "cx=\"", "cy=\""}) {
    for (size_t at = figure.find(key); at != std::string::npos; at = figure.find(key, at + 1)) {
      const size_t begin = at + std::string(key).size();
      const std::string value = figure.substr(begin, figure.find('"', begin) - begin);
      EXPECT_EQ(value.find_first_not_of("0123456789., -"), std::string::npos) << value;
    }
  }
}

TEST(Chart, OfNothingSaysSo) {
  for (const Series& series : {Series{}, Series{{.x = 1, .y = kNan}}, Series{{.x = 1, .y = INFINITY}}}) {
    const std::string figure = FigureOf(series);
    EXPECT_EQ(CountOf(figure, "no data"), 1);
    EXPECT_EQ(CountOf(figure, "<polyline"), 0);
  }
}

TEST(Chart, OfOnePointIsADot) {
  const std::string figure = FigureOf({{.x = 5, .y = 0.25}});
  EXPECT_EQ(CountOf(figure, "class=\"dot\""), 1);
  EXPECT_EQ(CountOf(figure, "<polyline"), 0);
  EXPECT_EQ(CountOf(figure, "<title>n, step 5: 0.25</title>"), 1);
}

TEST(Chart, HasAGapWhereAValueIsMissing) {
  const std::string figure =
      FigureOf({{.x = 1, .y = 1}, {.x = 2, .y = 2}, {.x = 3, .y = kNan}, {.x = 4, .y = 1}, {.x = 5, .y = 2}});
  EXPECT_EQ(CountOf(figure, "<polyline"), 2);
}

TEST(Chart, PutsPointsWhereTheyBelong) {
  const std::string figure = FigureOf({{.x = 0, .y = 0}, {.x = 10, .y = 1}});
  EXPECT_EQ(CountOf(figure, "points=\"42.0,176.0 350.0,8.0\""), 1) << figure;
}

TEST(Chart, DrawsErrorsOfWhatWasMeasuredNowAndThen) {
  const std::string figure =
      FigureOf({{.x = 0, .y = 0.5, .error = 0.5}, {.x = 10, .y = 0.5, .error = 0.1}}, ChartLine::Form::kPoints);
  EXPECT_EQ(CountOf(figure, "class=\"bar\" x1=\"42.0\" x2=\"42.0\" y1=\"176.0\" y2=\"8.0\""), 1) << figure;
  EXPECT_EQ(CountOf(figure, "step 10: 0.5 +- 0.1"), 1);
}

TEST(Chart, OfConstantsAndOfAnyRangeStaysInside) {
  for (const double y : {0.0, 1.0, -1e-320, 1e308, -1e308}) {
    ExpectFiniteCoordinates(FigureOf({{.x = 1, .y = y}, {.x = 2, .y = y}}));
    ExpectFiniteCoordinates(FigureOf({{.x = 1, .y = y}, {.x = 1, .y = 1}}));
    ExpectFiniteCoordinates(FigureOf({{.x = 1, .y = y}, {.x = 2, .y = -y}}));
  }
}

TEST(Chart, OfALongSeriesIsAsSmallAsOthers) {
  Series series;
  for (int step = 1; step <= 100000; ++step) {
    series.push_back({.x = static_cast<double>(step), .y = std::sin(step * 0.01)});
  }
  EXPECT_LT(FigureOf(series).size(), 20000u);
}

TEST(Chart, EscapesNames) {
  const std::string figure = ChartFigure({.title = "</figure>", .lines = {{.name = "\"<\xFF", .series = {{.y = 1}}}}});
  EXPECT_EQ(MarkupError(figure), "") << figure;
  EXPECT_EQ(MarkupError(ChartLegend({{.name = "<\""}, {.name = "b", .color = 9}})), "");
}

}  // namespace
}  // namespace conclave::launch
