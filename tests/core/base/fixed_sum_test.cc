// SPDX-License-Identifier: Apache-2.0
// The integer sums against 128-bit integers.
#include "core/base/fixed_sum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/rng.h"

namespace conclave::core {
namespace {

constexpr int64_t kVoid = std::numeric_limits<int64_t>::max();

// floor(value * 2^64) for value < 2^63.
__int128 InUnits(double value) {
  int exponent = 0;
  const auto mantissa = static_cast<int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
  const int shift = exponent - 53 + 64;
  if (shift >= 0) return static_cast<__int128>(mantissa) << shift;
  return shift > -64 ? mantissa >> -shift : 0;
}

__int128 Joined(const int64_t limbs[kNormLimbs]) {
  return static_cast<__int128>(limbs[0]) + (static_cast<__int128>(limbs[1]) << 40) +
         (static_cast<__int128>(limbs[2]) << 80);
}

double DrawMagnitude(uint64_t i, int lowest, int range) {
  const auto words = Philox(1, i, 0);
  return std::ldexp(1 + words[0] * 0x1p-32 + (words[1] >> 12) * 0x1p-52,
                    lowest + static_cast<int>(words[2] % static_cast<uint32_t>(range)));
}

TEST(NormLimbs, HoldEveryValueExactlyDownToTheUnit) {
  for (uint64_t i = 0; i < 20000; ++i) {
    const double value = DrawMagnitude(i, -130, 176);  // 2^-130 .. 2^46
    int64_t limbs[kNormLimbs] = {};
    AddToNormLimbs(value, limbs);
    EXPECT_TRUE(Joined(limbs) == InUnits(value)) << value;
  }
}

TEST(NormLimbs, SumsDoNotDependOnOrder) {
  int64_t forward[kNormLimbs] = {}, backward[kNormLimbs] = {};
  __int128 want = 0;
  constexpr uint64_t kCount = 100000;
  for (uint64_t i = 0; i < kCount; ++i) {
    AddToNormLimbs(DrawMagnitude(i, -80, 100), forward);
    AddToNormLimbs(DrawMagnitude(kCount - 1 - i, -80, 100), backward);
    want += InUnits(DrawMagnitude(i, -80, 100));
  }
  EXPECT_TRUE(Joined(forward) == want);
  for (int i = 0; i < kNormLimbs; ++i) EXPECT_EQ(forward[i], backward[i]);
  EXPECT_NEAR(NormLimbsToDouble(forward) / (static_cast<double>(want) * 0x1p-64), 1, 0x1p-51);
}

TEST(NormLimbs, ValueDependsOnTheSumAlone) {  // not on how it is spread over the limbs
  const int64_t carried[kNormLimbs] = {5, 7, 3};
  const int64_t loose[kNormLimbs] = {5 + (3ll << 40), 7 - 3 + (2ll << 40), 3 - 2};
  EXPECT_EQ(NormLimbsToDouble(carried), NormLimbsToDouble(loose));
  const int64_t zero[kNormLimbs] = {};
  EXPECT_EQ(NormLimbsToDouble(zero), 0);
}

TEST(NormLimbs, RefuseWhatIsNoSquare) {
  int64_t limbs[kNormLimbs] = {};
  EXPECT_DEATH(AddToNormLimbs(-1, limbs), "CHECK failed");
  EXPECT_DEATH(AddToNormLimbs(NAN, limbs), "CHECK failed");
  EXPECT_DEATH(AddToNormLimbs(HUGE_VAL, limbs), "CHECK failed");
}

TEST(LossToFixed, RoundsToNearestEven) {
  EXPECT_EQ(LossToFixed(0), 0);
  EXPECT_EQ(LossToFixed(1), int64_t{1} << 24);
  EXPECT_EQ(LossToFixed(-1), -(int64_t{1} << 24));
  EXPECT_EQ(LossToFixed(0.5 * kLossUnit), 0);
  EXPECT_EQ(LossToFixed(1.5 * kLossUnit), 2);
  EXPECT_EQ(LossToFixed(2.5 * kLossUnit), 2);
  EXPECT_EQ(LossToFixed(-2.5 * kLossUnit), -2);
  EXPECT_EQ(FixedToLoss(LossToFixed(12345.0625)), 12345.0625);
}

TEST(LossToFixed, MarksWhatIsNotFinite) {
  for (double loss : {static_cast<double>(NAN), HUGE_VAL, -HUGE_VAL, 0x1p38, -0x1p38})
    EXPECT_EQ(LossToFixed(loss), kVoid);
  EXPECT_NE(LossToFixed(0x1p37), kVoid);
}

TEST(GradientToFloat, RoundsToDoubleThenToFloat) {
  EXPECT_EQ(GradientToFloat(0), 0.0f);
  EXPECT_EQ(GradientToFloat(int64_t{1} << 50), 1.0f);
  EXPECT_EQ(GradientToFloat(-(int64_t{1} << 50)), -1.0f);
  // 2^61 + 2^37 + 1: as a double 2^61 + 2^37 exactly, a tie for the float; nearest-even goes down, a direct one goes
  // up.
  EXPECT_EQ(GradientToFloat((int64_t{1} << 61) + (int64_t{1} << 37) + 1), 0x1p11f);
}

}  // namespace
}  // namespace conclave::core
