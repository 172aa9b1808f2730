// SPDX-License-Identifier: Apache-2.0
// What a device says that it can do at best: no figure is exact on a machine that others use, but all have bounds.
#include <gtest/gtest.h>

#include "core/device/device.h"
#include "core/device/median_seconds.h"

namespace conclave::core {
namespace {

TEST(Peak, IsThatOfAProcessorAndNotLessInBf16) {
  auto device = CreateDevice({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  const double f32 = (*device)->MeasurePeakFlops(DType::kF32), bf16 = (*device)->MeasurePeakFlops(DType::kBf16);
  EXPECT_GT(f32, 1e8);   // a slow machine under load does more
  EXPECT_LT(f32, 1e12);  // more than any processor does: the loop was optimized away
  EXPECT_GT(bf16, 0.5 * f32);
  EXPECT_LT(bf16, 4e12);
}

TEST(Peak, CopyIsThatOfAMemoryWhateverTheThreads) {
  constexpr double kBytes = 1 << 24;
  for (const int threads : {1, 3}) {
    auto device = CreateDevice({.num_threads = threads});
    ASSERT_TRUE(device.ok()) << device.status();
    const double bytes_per_second = kBytes / (*device)->MeasureCopySeconds(kBytes);
    EXPECT_GT(bytes_per_second, 1e8) << threads;
    EXPECT_LT(bytes_per_second, 1e13) << threads;
  }
}

TEST(MedianOfRuns, RunsOnceToWarmUpAndAtLeastTenTimesToMeasure) {
  int runs = 0;
  MedianOfRuns([&] { return SecondsOf([&] { ++runs; }); });
  EXPECT_GE(runs, 11);
  EXPECT_LE(runs, 1001);
}

}  // namespace
}  // namespace conclave::core
