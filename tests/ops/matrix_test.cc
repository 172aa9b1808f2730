// SPDX-License-Identifier: Apache-2.0
// What the matrix operations promise beyond their formula: the very chain of roundings, sums that do not depend on how
// a batch is split over calls, the flag of void steps, and experts that are Gemms.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/fixed_sum.h"
#include "core/base/rng.h"
#include "tests/support/devices.h"

namespace conclave::core::test {
namespace {

Devices& AllDevices() {
  static Devices devices;
  return devices;
}

// Host memory with a tensor over it; the CPU backend computes in place.
template <class T>
struct Matrix {
  Matrix(DType dtype, int64_t rows, int64_t columns)
      : values(static_cast<size_t>(rows * columns)), view(values.data(), dtype, {rows, columns}) {}
  T* row(int64_t i) { return values.data() + i * view.size(1); }
  std::vector<T> values;
  Tensor view;
};

Matrix<float> RandomF32(uint64_t key, int64_t rows, int64_t columns) {
  Matrix<float> m(DType::kF32, rows, columns);
  for (size_t i = 0; i < m.values.size(); ++i) m.values[i] = StandardNormal(key, i);
  return m;
}

Matrix<Bf16> Rounded(const Matrix<float>& source) {
  Matrix<Bf16> m(DType::kBf16, source.view.size(0), source.view.size(1));
  for (size_t i = 0; i < m.values.size(); ++i) m.values[i] = ToBf16(source.values[i]);
  return m;
}

// Runs body(kernels, target) on every instruction set of the machine.
template <class Body>
void OnEachTarget(const Body& body) {
  for (const std::string& target : AllDevices().targets()) {
    SCOPED_TRACE(target);
    Device& device = AllDevices().Get(target, 2);
    const auto stream = device.CreateStream();
    body(*device.CreateKernels(*stream));
  }
}

// A packed weight and its memory.
struct Packed {
  Packed(Kernels& kernels, DType dtype, Tensor weights) {
    const int64_t matrices = weights.rank == 3 ? weights.size(0) : 1;
    const int64_t out = weights.size(weights.rank - 2), in = weights.size(weights.rank - 1);
    bytes.resize(static_cast<size_t>(kernels.PackedBytes(dtype, matrices, out, in)));
    weight = {.panels = Tensor(bytes.data(), DType::kU8, {static_cast<int64_t>(bytes.size())}),
              .dtype = dtype,
              .matrices = matrices,
              .out = out,
              .in = in};
    kernels.PackWeight(weights, weight, {});
  }
  std::vector<uint8_t> bytes;
  PackedWeight weight;
};

struct Gradient {
  Gradient(int64_t matrices, int64_t n, int64_t k)
      : sum(static_cast<size_t>(matrices * n * k)), shape{matrices, n, k} {}
  GradientTarget Target(float limit = 4096) {
    return {.sum = Tensor(sum.data(), DType::kI64, {shape[0], shape[1], shape[2]}),
            .flag = Tensor(&flag, DType::kI32, {1}),
            .limit = limit};
  }
  std::vector<int64_t> sum;
  std::vector<int64_t> shape;
  int32_t flag = 0;
};

Tensor Offsets(std::vector<int32_t>& offsets) {
  return Tensor(offsets.data(), DType::kI32, {static_cast<int64_t>(offsets.size())});
}

int64_t Fixed(float x) { return std::llrint(static_cast<double>(x) * 0x1p50); }

TEST(Gemm, IsOneChainOfFusedMultiplyAddsThenBiasThenAddend) {
  const int64_t rows = 11, n = 53, k = 2051;  // more than one chunk of k, odd everything
  Matrix<float> x = RandomF32(1, rows, k), w = RandomF32(2, n, k), bias = RandomF32(3, 1, n);
  Matrix<float> addend = RandomF32(4, rows, n), y(DType::kF32, rows, n);
  OnEachTarget([&](Kernels& kernels) {
    const Packed packed(kernels, DType::kF32, w.view);
    kernels.Gemm({.x = x.view, .w = packed.weight, .bias = bias.view.Reshape({n}), .addend = addend.view, .y = y.view});
    for (int64_t t = 0; t < rows; ++t) {
      for (int64_t i = 0; i < n; ++i) {
        float sum = 0;
        for (int64_t j = 0; j < k; ++j) sum = std::fma(x.row(t)[j], w.row(i)[j], sum);
        sum = sum + bias.row(0)[i];
        ASSERT_EQ(y.row(t)[i], sum + addend.row(t)[i]) << t << " " << i;
      }
    }
  });
}

// As Intel's manual describes TDPBF16PS. Denormals do not occur here.
TEST(Gemm, WithAmxIsOneChainOfGroupsOfPairs) {
  if (AllDevices().targets().back() != "amx") GTEST_SKIP() << "this machine has no AMX";
  const int64_t rows = 37, n = 53, k = 2 * 16 * 70 + 19;  // more than one chunk of k, an odd last group, part of a tile
  Matrix<float> w = RandomF32(2, n, k), y(DType::kF32, rows, n);
  Matrix<Bf16> x = Rounded(RandomF32(1, rows, k));
  const Matrix<Bf16> rounded_w = Rounded(w);
  Device& device = AllDevices().Get("amx", 2);
  const auto stream = device.CreateStream();
  const auto kernels = device.CreateKernels(*stream);
  const Packed packed(*kernels, DType::kBf16, w.view);
  kernels->Gemm({.x = x.view, .w = packed.weight, .bias = {}, .addend = {}, .y = y.view});
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0;
      for (int64_t first = 0; first < k; first += 32) {
        float of_parity[2] = {};
        for (int64_t j = first; j < std::min(first + 32, k); ++j) {
          float& chain = of_parity[j % 2];
          chain = std::fma(ToFloat(x.values[static_cast<size_t>(t * k + j)]),
                           ToFloat(rounded_w.values[static_cast<size_t>(i * k + j)]), chain);
        }
        sum += of_parity[0] + of_parity[1];
      }
      ASSERT_EQ(y.row(t)[i], sum) << t << " " << i;
    }
  }
}

TEST(Gemm, RoundsOnceToBf16) {
  const int64_t rows = 9, n = 50, k = 33;
  const Matrix<float> source = RandomF32(1, rows, k);
  Matrix<float> w = RandomF32(2, n, k), addend = RandomF32(3, rows, n), exact(DType::kF32, rows, n);
  Matrix<Bf16> x = Rounded(source), y(DType::kBf16, rows, n);
  OnEachTarget([&](Kernels& kernels) {
    const Packed packed(kernels, DType::kBf16, w.view);
    kernels.Gemm({.x = x.view, .w = packed.weight, .bias = {}, .addend = addend.view, .y = exact.view});
    kernels.Gemm({.x = x.view, .w = packed.weight, .bias = {}, .addend = addend.view, .y = y.view});
    for (size_t i = 0; i < y.values.size(); ++i) ASSERT_EQ(y.values[i].bits, ToBf16(exact.values[i]).bits) << i;
  });
}

TEST(GroupedGemm, GivesEachRowTheBitsOfAGemmWithItsExpert) {
  const int64_t experts = 5, n = 50, k = 19, rows = 41;
  std::vector<int32_t> offsets = {0, 1, 1, 30, 41, 41};
  const Matrix<float> source = RandomF32(1, rows, k);
  Matrix<float> w = RandomF32(2, experts * n, k), y(DType::kF32, rows, n), alone(DType::kF32, 1, n);
  for (DType dtype : {DType::kF32, DType::kBf16}) {
    Matrix<float> f32 = source;
    f32.view.data = f32.values.data();
    Matrix<Bf16> bf16 = Rounded(source);
    const Tensor x = dtype == DType::kF32 ? f32.view : bf16.view;
    OnEachTarget([&](Kernels& kernels) {
      const Packed packed(kernels, dtype, w.view.Reshape({experts, n, k}));
      kernels.GroupedGemm({.x = x, .w = packed.weight, .expert_offsets = Offsets(offsets), .y = y.view});
      for (int64_t e = 0; e < experts; ++e) {
        const Packed one(kernels, dtype, w.view.Slice(0, e * n, n));
        for (int64_t t = offsets[e]; t < offsets[e + 1]; ++t) {
          kernels.Gemm({.x = x.Slice(0, t, 1), .w = one.weight, .bias = {}, .addend = {}, .y = alone.view});
          for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y.row(t)[i], alone.row(0)[i]) << t << " " << i;
        }
      }
    });
  }
}

TEST(WeightGrad, IsTheRoundedChainOfEachSegment) {
  // Three matrices of two segments: with chains longer than a chunk of the implementation, none, and single tokens.
  std::vector<int32_t> offsets = {0, 700, 1900, 1900, 1900, 1901, 1937};
  const int64_t matrices = 3, n = 21, k = 67, tokens = offsets.back();
  Matrix<float> dy = RandomF32(1, tokens, n), x = RandomF32(2, tokens, k);
  Gradient want(matrices, n, k);
  for (int64_t s = 0; s + 1 < static_cast<int64_t>(offsets.size()); ++s) {
    for (int64_t i = 0; i < n * k; ++i) {
      float sum = 0;
      for (int64_t t = offsets[s]; t < offsets[s + 1]; ++t) sum = std::fma(dy.row(t)[i / k], x.row(t)[i % k], sum);
      want.sum[s / 2 * n * k + i] += Fixed(sum);
    }
  }
  OnEachTarget([&](Kernels& kernels) {
    Gradient got(matrices, n, k);
    kernels.WeightGrad({.dy = dy.view,
                        .x = x.view,
                        .segment_offsets = Offsets(offsets),
                        .matrices = matrices,
                        .product_dtype = DType::kF32,
                        .target = got.Target()});
    EXPECT_EQ(got.sum, want.sum);
    EXPECT_EQ(got.flag, 0);
  });
}

// One token with dy = 1: its x are the contributions themselves.
TEST(WeightGrad, RoundsEveryMagnitudeToTheNearestEvenUnit) {
  std::vector<float> values = {
      0.0f,     -0.0f,     2.0f,     -2.0f,    std::nextafter(2.0f, 0.0f), std::nextafter(-2.0f, 0.0f), 4095.f, -4095.f,
      0x1p-51f, -0x1p-51f, 0x3p-51f, -0x3p-51f};
  for (uint64_t i = 0; i < 4000; ++i) {
    const auto odd = static_cast<float>(2 * (i * 2654435761u % (1 << 22)) + 1);  // in units of 2^-51: a tie
    values.push_back((i % 2 == 0 ? 0x1p-51f : -0x1p-51f) * odd);
    values.push_back(std::ldexp(StandardNormal(1, i), static_cast<int>(i % 70) - 60));
  }
  Matrix<float> one(DType::kF32, 1, 1);
  one.row(0)[0] = 1;
  for (float largest : {1.9f, 3.5f, 3000.0f}) {  // of what tiles hold
    std::vector<float> kept;
    for (float v : values) {
      if (std::abs(v) <= largest) kept.push_back(v);
    }
    const auto k = static_cast<int64_t>(kept.size());
    Matrix<float> x(DType::kF32, 1, k);
    x.values = kept;
    x.view.data = x.values.data();
    std::vector<int32_t> offsets = {0, 1};
    OnEachTarget([&](Kernels& kernels) {
      Gradient got(1, 1, k);
      kernels.WeightGrad({.dy = one.view,
                          .x = x.view,
                          .segment_offsets = Offsets(offsets),
                          .matrices = 1,
                          .product_dtype = DType::kF32,
                          .target = got.Target()});
      for (int64_t i = 0; i < k; ++i)
        ASSERT_EQ(got.sum[static_cast<size_t>(i)], Fixed(kept[static_cast<size_t>(i)])) << kept[static_cast<size_t>(i)];
      EXPECT_EQ(got.flag, 0);
    });
  }
}

TEST(WeightGrad, DoesNotDependOnHowRowsAreSplitOverCallsNorOnTheirOrder) {
  std::vector<int32_t> offsets = {0, 5, 36, 36, 67, 70, 411, 700};  // the last two begin and end within chunks
  const int64_t n = 50, k = 33, tokens = offsets.back();
  Matrix<float> dy = RandomF32(1, tokens, n), x = RandomF32(2, tokens, k);
  for (DType product : {DType::kF32, DType::kBf16}) {
    OnEachTarget([&](Kernels& kernels) {
      Gradient whole(1, n, k), parts(1, n, k);
      kernels.WeightGrad({.dy = dy.view,
                          .x = x.view,
                          .segment_offsets = Offsets(offsets),
                          .matrices = 1,
                          .product_dtype = product,
                          .target = whole.Target()});
      for (size_t row = offsets.size() - 1; row-- > 0;) {
        const int64_t begin = offsets[row], count = offsets[row + 1] - begin;
        std::vector<int32_t> own = {0, static_cast<int32_t>(count)};
        kernels.WeightGrad({.dy = dy.view.Slice(0, begin, count),
                            .x = x.view.Slice(0, begin, count),
                            .segment_offsets = Offsets(own),
                            .matrices = 1,
                            .product_dtype = product,
                            .target = parts.Target()});
      }
      EXPECT_EQ(parts.sum, whole.sum);
    });
  }
}

TEST(WeightGrad, RoundsItsInputsToTheTypeOfTheProducts) {
  std::vector<int32_t> offsets = {0, 5, 36};
  const int64_t n = 18, k = 50, tokens = offsets.back();
  Matrix<float> dy = RandomF32(1, tokens, n), x = RandomF32(2, tokens, k);
  Matrix<Bf16> rounded_dy = Rounded(dy), rounded_x = Rounded(x);
  OnEachTarget([&](Kernels& kernels) {
    Gradient from_f32(1, n, k), from_bf16(1, n, k), mixed(1, n, k);
    const auto add = [&](Tensor dy_view, Tensor x_view, Gradient& gradient) {
      kernels.WeightGrad({.dy = dy_view,
                          .x = x_view,
                          .segment_offsets = Offsets(offsets),
                          .matrices = 1,
                          .product_dtype = DType::kBf16,
                          .target = gradient.Target()});
    };
    add(dy.view, x.view, from_f32);
    add(rounded_dy.view, rounded_x.view, from_bf16);
    add(dy.view, rounded_x.view, mixed);
    EXPECT_EQ(from_f32.sum, from_bf16.sum);
    EXPECT_EQ(mixed.sum, from_bf16.sum);
  });
}

TEST(WeightGrad, IntoFloatSumsIsOneChainOverAllTokensOfAMatrix) {
  const int64_t tokens = 301, n = 19, k = 53;  // more than one chunk
  Matrix<float> dy = RandomF32(1, tokens, n), x = RandomF32(2, tokens, k);
  std::vector<float> want(static_cast<size_t>(n * k));
  for (int64_t i = 0; i < n * k; ++i) {
    float chain = 0;
    for (int64_t t = 0; t < tokens; ++t) chain = std::fma(dy.row(t)[i / k], x.row(t)[i % k], chain);
    want[static_cast<size_t>(i)] = 0.5f + chain;
  }
  OnEachTarget([&](Kernels& kernels) {
    for (std::vector<int32_t> offsets : {std::vector<int32_t>{0, 301}, {0, 0, 7, 290, 301, 301}}) {
      std::vector<float> sum(want.size(), 0.5f);
      int32_t flag = 0;
      kernels.WeightGrad({.dy = dy.view,
                          .x = x.view,
                          .segment_offsets = Offsets(offsets),
                          .matrices = 1,
                          .product_dtype = DType::kF32,
                          .target = {.sum = Tensor(sum.data(), DType::kF32, {n, k}),
                                     .flag = Tensor(&flag, DType::kI32, {1}),
                                     .limit = 4096}});
      EXPECT_EQ(sum, want);
      EXPECT_EQ(flag, 0);
    }
  });
}

// The flag after a gradient of 17 x 49 elements one of which is `value` (all others are 1).
template <class Run>
int32_t FlagFor(float value, float limit, DType sums, const Run& run) {
  Matrix<float> dy(DType::kF32, 1, 17), x(DType::kF32, 1, 49);
  for (float& v : dy.values) v = 1;
  for (float& v : x.values) v = 1;
  Gradient gradient(1, 17, 49);
  x.values[48] = value;
  GradientTarget target = gradient.Target(limit);
  target.sum.dtype = sums;  // in the first half of the memory
  run(dy, x, target);
  return gradient.flag;
}

TEST(WeightGrad, MarksTheStepVoidForEveryContributionBeyondTheLimit) {
  const float inf = std::numeric_limits<float>::infinity();
  OnEachTarget([&](Kernels& kernels) {
    const auto run = [&](Matrix<float>& dy, Matrix<float>& x, GradientTarget target) {
      std::vector<int32_t> offsets = {0, 1};
      kernels.WeightGrad({.dy = dy.view,
                          .x = x.view,
                          .segment_offsets = Offsets(offsets),
                          .matrices = 1,
                          .product_dtype = DType::kF32,
                          .target = target});
    };
    for (DType sums : {DType::kI64, DType::kF32}) {
      for (float bad : {64.0f, -64.0f, 1e30f, inf, -inf, std::nanf("")})
        EXPECT_EQ(FlagFor(bad, 64, sums, run), 1) << bad;
      for (float good : {63.99999f, -63.99999f, 0.0f}) EXPECT_EQ(FlagFor(good, 64, sums, run), 0) << good;
    }
  });
}

TEST(BiasGrad, IsTheRoundedSumOfEachRowAndMarksVoidSteps) {
  std::vector<int32_t> offsets = {0, 5, 5, 36};
  const int64_t n = 37, tokens = offsets.back();
  Matrix<float> dy = RandomF32(1, tokens, n);
  std::vector<int64_t> want(n);
  for (size_t r = 0; r + 1 < offsets.size(); ++r) {
    for (int64_t i = 0; i < n; ++i) {
      float sum = 0;
      for (int64_t t = offsets[r]; t < offsets[r + 1]; ++t) sum = sum + dy.row(t)[i];
      want[i] += Fixed(sum);
    }
  }
  OnEachTarget([&](Kernels& kernels) {
    Gradient got(1, 1, n);
    GradientTarget target = got.Target();
    target.sum = target.sum.Reshape({n});
    kernels.BiasGrad(dy.view, Offsets(offsets), target);
    EXPECT_EQ(got.sum, want);
    EXPECT_EQ(got.flag, 0);
    target.limit = 1e-3f;
    kernels.BiasGrad(dy.view, Offsets(offsets), target);
    EXPECT_EQ(got.flag, 1);
  });
}

}  // namespace
}  // namespace conclave::core::test
