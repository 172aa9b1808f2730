// SPDX-License-Identifier: Apache-2.0
// SumSquares against long double, and the law that makes it fit for sharded gradients: parts along dim 0 add up to the
// whole.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/base/fixed_sum.h"
#include "tests/core/device/every_device.h"

namespace conclave::core::test {
namespace {

std::vector<int64_t> Gradient(int64_t n, double scale) {
  const std::vector<float> x = Normals(11, n);
  std::vector<int64_t> sums(n);
  for (int64_t i = 0; i < n; ++i) sums[i] = static_cast<int64_t>(x[i] * scale / kGradientUnit);
  return sums;
}

std::vector<int64_t> Limbs(Kernels& kernels, Tensor gradient) {
  std::vector<int64_t> limbs(kNormLimbs, 0);
  kernels.SumSquares(gradient, View(limbs));
  return limbs;
}

TEST(SumSquares, IsNearTheSumInLongDouble) {
  for (double scale : {1e-3, 1.0, 100.0}) {
    for (int64_t columns : {1, 15, 16, 17, 1000}) {
      std::vector<int64_t> gradient = Gradient(37 * columns, scale);
      const auto limbs = SameOnEveryDevice([&](Kernels& k) { return Limbs(k, View(gradient, {37, columns})); });
      long double want = 0;
      for (int64_t sum : gradient) want += powl(static_cast<long double>(sum) * kGradientUnit, 2);
      EXPECT_NEAR(NormLimbsToDouble(limbs.data()) / static_cast<double>(want), 1, 1e-13);
    }
  }
}

TEST(SumSquares, AddsSixteenLanesInOneTreePerSlice) {
  std::vector<int64_t> gradient = Gradient(40 * 500, 1);
  const auto limbs = SameOnEveryDevice([&](Kernels& kernels) { return Limbs(kernels, View(gradient, {40, 500})); });
  std::vector<int64_t> want(kNormLimbs, 0);
  for (int slice = 0; slice < 40; ++slice) {
    std::vector<double> lanes(16, 0);
    for (int i = 0; i < 500; ++i) {
      const double x = static_cast<double>(gradient[slice * 500 + i]) * kGradientUnit;
      lanes[i % 16] += x * x;
    }
    for (int width : {8, 4, 2, 1}) {
      for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    }
    AddToNormLimbs(lanes[0], want.data());
  }
  EXPECT_EQ(limbs, want);
}

TEST(SumSquares, OfPartsAlongTheFirstDimAddUpToTheWhole) {
  std::vector<int64_t> gradient = Gradient(10 * 3 * 333, 0.1);
  const Tensor whole = View(gradient, {10, 3, 333});
  const auto limbs = SameOnEveryDevice([&](Kernels& kernels) { return Limbs(kernels, whole); });
  const auto in_parts = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<int64_t> sum(kNormLimbs, 0);
    for (auto [begin, count] : {std::pair{7, 3}, {0, 4}, {4, 0}, {4, 3}}) {
      kernels.SumSquares(whole.Slice(0, begin, count), View(sum));
    }
    return sum;
  });
  EXPECT_EQ(limbs, in_parts);
}

TEST(SumSquares, TakesTheWholeRangeOfGradients) {
  std::vector<int64_t> gradient = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), 1, 0};
  const auto limbs = SameOnEveryDevice([&](Kernels& kernels) { return Limbs(kernels, View(gradient)); });
  EXPECT_EQ(NormLimbsToDouble(limbs.data()), 0x1p27);
}

TEST(SumSquares, OfFloatsHasTheOrderOfIntegers) {
  std::vector<int64_t> integers = Gradient(40 * 333, 0.1);
  std::vector<float> floats(integers.size());
  for (size_t i = 0; i < floats.size(); ++i) {
    floats[i] = GradientToFloat(integers[i]);
    integers[i] = static_cast<int64_t>(static_cast<double>(floats[i]) / kGradientUnit);  // the same values
  }
  const auto of_floats = SameOnEveryDevice([&](Kernels& k) { return Limbs(k, View(floats, {40, 333})); });
  EXPECT_EQ(of_floats, SameOnEveryDevice([&](Kernels& k) { return Limbs(k, View(integers, {40, 333})); }));
}

// A void step leaves such; its flag says so, and it must not end the program.
TEST(SumSquares, SkipsSlicesOfFloatsThatAreNoNumbers) {
  for (float bad : {HUGE_VALF, -HUGE_VALF, static_cast<float>(NAN), 1e30f}) {
    std::vector<float> gradient = {1, 2, bad, 3, 4, 5};
    const auto limbs = SameOnEveryDevice([&](Kernels& k) { return Limbs(k, View(gradient, {3, 2})); });
    EXPECT_EQ(NormLimbsToDouble(limbs.data()), 46);
  }
}

TEST(SumSquares, OfNothingAddsNothing) {
  std::vector<int64_t> gradient, limbs = {1, 2, 3};
  BestKernels()->SumSquares(View(gradient, {0, 5}), View(limbs));
  EXPECT_EQ(limbs, (std::vector<int64_t>{1, 2, 3}));
}

}  // namespace
}  // namespace conclave::core::test
