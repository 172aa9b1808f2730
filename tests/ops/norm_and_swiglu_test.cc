// SPDX-License-Identifier: Apache-2.0
// What RmsNormBackward and SwiGlu promise beyond their formulas: the unit of rounding of the gain gradient, the flag of
// a void step, rows that do not count, and in-place use.
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/rng.h"
#include "tests/support/devices.h"
#include "tests/support/host_array.h"

namespace conclave::core::test {
namespace {

std::vector<float> Random(uint64_t key, size_t n) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = StandardNormal(key, i);
  return values;
}

class NormAndSwiGlu : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Device> device_ = CreateCpuDevice(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = device_->CreateStream();
  std::unique_ptr<Kernels> kernels_ = device_->CreateKernels(*stream_);
};

constexpr int64_t kTokens = 12, kWidth = 70;

struct NormInputs {
  HostArray<float> x{{kTokens, kWidth}, Random(1, kTokens*kWidth)}, dy{{kTokens, kWidth}, Random(2, kTokens*kWidth)};
  HostArray<float> gain{{kWidth}, Random(3, kWidth)}, y{{kTokens, kWidth}}, dx{{kTokens, kWidth}}, rstd{{kTokens}};
  HostArray<int64_t> sum{{kWidth}};
  HostArray<int32_t> flag{{1}};
  GradientTarget Target(float limit = 4096) { return {.sum = sum.tensor, .flag = flag.tensor, .limit = limit}; }
};

TEST_P(NormAndSwiGlu, GainGradientsDoNotDependOnHowRowsOfABatchAreSplitOverCalls) {
  NormInputs whole, parts;
  kernels_->RmsNorm(whole.x.tensor, whole.gain.tensor, 1e-6f, whole.y.tensor, whole.rstd.tensor);
  kernels_->RmsNorm(parts.x.tensor, parts.gain.tensor, 1e-6f, parts.y.tensor, parts.rstd.tensor);
  HostArray<int32_t> all({4}, {0, 4, 8, 12}), one({2}, {0, 4});
  kernels_->RmsNormBackward(whole.x.tensor, whole.gain.tensor, whole.rstd.tensor, whole.dy.tensor, {}, all.tensor,
                            whole.dx.tensor, whole.Target());
  for (int64_t row : {2, 0, 1}) {
    kernels_->RmsNormBackward(parts.x.tensor.Slice(0, 4 * row, 4), parts.gain.tensor,
                              parts.rstd.tensor.Slice(0, 4 * row, 4), parts.dy.tensor.Slice(0, 4 * row, 4), {},
                              one.tensor, parts.dx.tensor.Slice(0, 4 * row, 4), parts.Target());
  }
  EXPECT_EQ(whole.sum.values, parts.sum.values);
  EXPECT_EQ(whole.dx.values, parts.dx.values);
  EXPECT_EQ(whole.flag.values[0], 0);
  EXPECT_NE(whole.sum.values[0], 0);
}

TEST_P(NormAndSwiGlu, AGainGradientAtTheLimitOrNaNSetsTheFlag) {
  HostArray<int32_t> offsets({2}, {0, kTokens});
  for (const float bad : {1e9f, -1e9f, std::numeric_limits<float>::quiet_NaN()}) {
    NormInputs in;
    kernels_->RmsNorm(in.x.tensor, in.gain.tensor, 1e-6f, in.y.tensor, in.rstd.tensor);
    in.dy.values[5 * kWidth + 69] = bad;  // in the part of a vector at the end
    kernels_->RmsNormBackward(in.x.tensor, in.gain.tensor, in.rstd.tensor, in.dy.tensor, {}, offsets.tensor,
                              in.dx.tensor, in.Target());
    EXPECT_EQ(in.flag.values[0], 1) << bad;
  }
}

TEST_P(NormAndSwiGlu, BackwardMayWriteOverTheUpstreamGradient) {
  NormInputs apart, in_place;
  HostArray<int32_t> offsets({2}, {0, kTokens});
  for (NormInputs* in : {&apart, &in_place}) {
    kernels_->RmsNorm(in->x.tensor, in->gain.tensor, 1e-6f, in->y.tensor, in->rstd.tensor);
    kernels_->RmsNormBackward(in->x.tensor, in->gain.tensor, in->rstd.tensor, in->dy.tensor, {}, offsets.tensor,
                              in == &apart ? in->dx.tensor : in->dy.tensor, in->Target());
  }
  EXPECT_EQ(apart.dx.values, in_place.dy.values);
  EXPECT_EQ(apart.sum.values, in_place.sum.values);
}

TEST_P(NormAndSwiGlu, RowsBeyondTheCountAreNotTouched) {
  constexpr int64_t kRows = 5, kCounted = 3, kInner = 19;
  HostArray<float> gate_up({kRows, 2 * kInner}, Random(4, kRows * 2 * kInner)),
      dh({kRows, kInner}, Random(5, kRows * kInner));
  HostArray<float> weight({kRows}, Random(6, kRows));
  HostArray<float> h({kRows, kInner}, std::vector<float>(kRows * kInner, 7)),
      d_weight({kRows}, std::vector<float>(kRows, 7));
  HostArray<float> d_gate_up({kRows, 2 * kInner}, std::vector<float>(kRows * 2 * kInner, 7));
  HostArray<int32_t> count({1}, {kCounted});
  kernels_->SwiGlu(gate_up.tensor, weight.tensor, count.tensor, h.tensor);
  kernels_->SwiGluBackward(gate_up.tensor, weight.tensor, count.tensor, dh.tensor, d_gate_up.tensor, d_weight.tensor);
  for (int64_t row = 0; row < kRows; ++row) {
    const bool untouched = row >= kCounted;
    const size_t r = static_cast<size_t>(row);
    EXPECT_EQ(d_weight.values[r] == 7, untouched) << row;
    for (size_t i = 0; i < kInner; ++i) EXPECT_EQ(h.values[r * kInner + i] == 7, untouched) << row;
    for (size_t i = 0; i < 2 * kInner; ++i) EXPECT_EQ(d_gate_up.values[r * 2 * kInner + i] == 7, untouched) << row;
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, NormAndSwiGlu, testing::ValuesIn(Devices().targets()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace conclave::core::test
