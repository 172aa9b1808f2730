// SPDX-License-Identifier: Apache-2.0
// Ticks of an axis: round, few, inside, and told apart by their text, for any range.
#include "launch/report/axis.h"

#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"

namespace conclave::launch {
namespace {

std::vector<std::string> Texts(const Axis& axis) {
  std::vector<std::string> texts;
  for (const double tick : axis.ticks) texts.push_back(axis.Text(tick));
  return texts;
}

using Words = std::vector<std::string>;

TEST(Axis, HasRoundNumbers) {
  EXPECT_EQ(Texts(RoundAxis(0, 1, 6)), (Words{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(Texts(RoundAxis(0.13, 0.41, 6)), (Words{"0.1", "0.2", "0.3", "0.4", "0.5"}));
  EXPECT_EQ(Texts(RoundAxis(-3, 17, 6)), (Words{"-5", "0", "5", "10", "15", "20"}));
  EXPECT_EQ(Texts(ExactAxis(0, 125, 7)), (Words{"0", "50", "100"}));
  EXPECT_EQ(Texts(ExactAxis(0, 100000, 6)), (Words{"0", "20k", "40k", "60k", "80k", "100k"}));
  EXPECT_EQ(Texts(ExactAxis(0, 2.4e6, 6)), (Words{"0", "500k", "1000k", "1500k", "2000k"}));
}

TEST(Axis, ExactKeepsItsEndsAndRoundWidensToTicks) {
  const Axis exact = ExactAxis(3, 47, 6), round = RoundAxis(3, 47, 6);
  EXPECT_EQ(exact.low, 3);
  EXPECT_EQ(exact.high, 47);
  EXPECT_EQ(round.low, 0);
  EXPECT_EQ(round.high, 50);
  EXPECT_EQ(round.Share(25), 0.5);
}

TEST(Axis, HasRoomAroundOneNumber) {
  for (const double value : {0.0, 1.0, -2.5, 1e-300, 1e300, 5e-324, 1.7e308, -1.7e308}) {
    for (const Axis& axis : {RoundAxis(value, value, 6), ExactAxis(value, value, 6)}) {
      EXPECT_LT(axis.low, axis.high) << value;
      EXPECT_FALSE(axis.ticks.empty()) << value;
      EXPECT_TRUE(std::isfinite(axis.Share(std::clamp(value, -1e300, 1e300)))) << value;
    }
  }
}

TEST(Axis, TicksAreRoundFewAscendingAndInsideForAnyRange) {
  for (uint64_t trial = 0; trial < 3000; ++trial) {
    const auto draws = core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 0), 0, 0);
    const auto number = [](uint32_t mantissa, uint32_t exponent) {
      return (mantissa % 2001 - 1000.0) * std::pow(10.0, static_cast<int>(exponent % 500) - 250);
    };
    double low = number(draws[0], draws[1]), high = number(draws[2], trial % 2 == 0 ? draws[1] : draws[3]);
    if (low > high) std::swap(low, high);
    const Axis axis = RoundAxis(low, high, 6);
    ASSERT_LT(axis.low, axis.high);
    ASSERT_GE(axis.ticks.size(), 2u) << low << " " << high;
    ASSERT_LE(axis.ticks.size(), 8u) << low << " " << high;
    const double mantissa = axis.step / std::pow(10.0, std::floor(std::log10(axis.step) + 1e-9));
    EXPECT_TRUE(std::abs(mantissa - 1) < 1e-6 || std::abs(mantissa - 2) < 1e-6 || std::abs(mantissa - 5) < 1e-6)
        << axis.step;
    EXPECT_LE(axis.low, low + axis.step * 1e-6);
    EXPECT_GE(axis.high, high - axis.step * 1e-6);
    const std::set<std::string> texts = [&] {
      const Words words = Texts(axis);
      return std::set<std::string>(words.begin(), words.end());
    }();
    EXPECT_EQ(texts.size(), axis.ticks.size()) << low << " " << high;
  }
}

}  // namespace
}  // namespace conclave::launch
