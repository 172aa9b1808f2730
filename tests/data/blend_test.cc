// SPDX-License-Identifier: Apache-2.0
#include "data/blend.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"

namespace conclave::data {
namespace {

TEST(Blend, KeepsEverySourceWithinOneDrawOfItsShare) {
  const std::vector<std::vector<double>> blends = {{1},
                                                   {1, 1},
                                                   {0.7, 0.3},
                                                   {1, 2, 3},
                                                   {5, 5, 5, 5, 5, 5, 5},
                                                   {1000, 1, 1},
                                                   {0.5, 0.25, 0.125, 0.0625, 0.0625},
                                                   {3.14159, 2.71828, 1.41421, 0.57721}};
  for (const std::vector<double>& weights : blends) {
    const Blend blend(weights);
    double total = 0;
    for (const double weight : weights) total += weight;
    std::vector<int64_t> drawn(weights.size(), 0);
    for (int64_t n = 0; n < 3 * Blend::kCycle; ++n) {
      const Blend::Draw draw = blend(n);
      ASSERT_EQ(draw.index, drawn[draw.source]++);
      for (size_t s = 0; s < weights.size(); ++s) {
        // The shares are rounded to 1 / kCycle, so three cycles may add three draws.
        const double rounding = static_cast<double>(n + 1) / Blend::kCycle;
        const double share = static_cast<double>(n + 1) * weights[s] / total;
        ASSERT_LT(std::abs(static_cast<double>(drawn[s]) - share), 1 + rounding) << "source " << s << " after " << n;
      }
    }
  }
}

TEST(Blend, DrawsFromEverySourceHoweverSmallItsWeight) {
  std::vector<double> weights(100, 1e-12);
  weights[50] = 1e300;
  const Blend blend(weights);
  std::vector<int64_t> drawn(weights.size(), 0);
  for (int64_t i = 0; i < Blend::kCycle; ++i) ++drawn[blend(i).source];
  for (size_t s = 0; s < weights.size(); ++s) EXPECT_EQ(drawn[s], s == 50 ? Blend::kCycle - 99 : 1) << s;
}

TEST(Blend, MeetsAllDeadlinesForRandomWeights) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<double> weights;
    for (uint64_t s = 0; s < 2 + seed; ++s) weights.push_back(core::UniformFloat(core::Philox(seed, s, 0)[0]) + 1e-3);
    const Blend blend(weights);  // checks itself that a source is always there to draw
    std::vector<int64_t> drawn(weights.size(), 0);
    for (int64_t i = 0; i < Blend::kCycle; ++i) ++drawn[blend(i).source];
    for (const int64_t count : drawn) EXPECT_GT(count, 0);
  }
}

TEST(Blend, GoesOnForEver) {
  const Blend blend(std::vector<double>{3, 1});
  const int64_t far = int64_t{1} << 40;
  const Blend::Draw draw = blend(far);
  const double share = draw.source == 0 ? 0.75 : 0.25;
  EXPECT_NEAR(static_cast<double>(draw.index), static_cast<double>(far) * share, 1.0);
}

}  // namespace
}  // namespace conclave::data
