// SPDX-License-Identifier: Apache-2.0
// Few points for many: extremes and ends stay.
#include "launch/report/series.h"

#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"

#include "core/base/rng.h"

namespace conclave::launch {
namespace {

Series Numbered(std::initializer_list<double> values) {
  Series series;
  for (const double y : values) series.push_back({.x = static_cast<double>(series.size()), .y = y});
  return series;
}

TEST(Thinned, LeavesAShortSeriesAsItIs) {
  EXPECT_EQ(Thinned({}, 4).size(), 0u);
  const Series series = Numbered({1, std::nan(""), 3, 2});
  ASSERT_EQ(Thinned(series, 4).size(), 4u);
  EXPECT_TRUE(std::isnan(Thinned(series, 4)[1].y));
}

TEST(Thinned, KeepsEndsAndExtremesInTheirOrder) {
  for (uint64_t trial = 0; trial < 200; ++trial) {
    Series series;
    const size_t count = 5 + trial * 37 % 3000, most = 4 + trial % 400;
    for (size_t i = 0; i < count; ++i) {
      const uint32_t draw = core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 0), i, 0)[0];
      series.push_back({.x = static_cast<double>(i), .y = draw % 20 == 0 ? std::nan("") : draw / 1e9});
    }
    const Series thinned = Thinned(series, most);
    ASSERT_LE(thinned.size(), std::max<size_t>(most, 4));
    EXPECT_EQ(thinned.front().x, 0);
    EXPECT_EQ(thinned.back().x, series.back().x);
    EXPECT_TRUE(std::is_sorted(thinned.begin(), thinned.end(),
                               [](const SeriesPoint& a, const SeriesPoint& b) { return a.x < b.x; }));
    for (const int sign : {1, -1}) {
      const auto largest = [sign](const Series& points) {
        double most = -1e300;
        for (const SeriesPoint& point : points) {
          if (std::isfinite(point.y)) most = std::max(most, sign * point.y);
        }
        return most;
      };
      EXPECT_EQ(largest(thinned), largest(series)) << trial;
    }
  }
}

TEST(Thinned, KeepsAGapThatIsAsLongAsAShare) {
  Series series(1000, {.y = 1});
  for (size_t i = 0; i < series.size(); ++i) series[i].x = static_cast<double>(i);
  for (size_t i = 300; i < 600; ++i) series[i].y = std::nan("");
  const Series thinned = Thinned(series, 20);
  EXPECT_TRUE(std::any_of(thinned.begin(), thinned.end(), [](const SeriesPoint& p) { return std::isnan(p.y); }));
}

TEST(Means, AreOfEqualSharesWithoutWhatIsNoNumber) {
  const Series means = Means(Numbered({1, 2, std::nan(""), 6, std::nan(""), std::nan("")}), 3);
  ASSERT_EQ(means.size(), 3u);
  EXPECT_EQ(means[0].y, 1.5);
  EXPECT_EQ(means[0].x, 1);
  EXPECT_EQ(means[1].y, 6);
  EXPECT_TRUE(std::isnan(means[2].y));
  EXPECT_EQ(Means(Numbered({1e308, 1e308}), 1)[0].y, 1e308);
  EXPECT_TRUE(Means({}, 3).empty());
}

}  // namespace
}  // namespace conclave::launch
