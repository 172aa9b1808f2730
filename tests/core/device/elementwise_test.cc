// SPDX-License-Identifier: Apache-2.0
// Zero, FillNormal, Cast, Add against scalar loops, bit by bit, on contiguous and strided tensors.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/base/rng.h"
#include "tests/core/device/every_device.h"

namespace conclave::core::test {
namespace {

const std::vector<float> kExtremes = {0.0f,        -0.0f,       1e-45f,     -1e-40f,     0x1p-126f,
                                      1.00390625f, 1.01171875f, 3.4028e38f, -3.4028e38f, 3.39e38f,
                                      HUGE_VALF,   -HUGE_VALF,  NAN,        0x1.ffffp5f};

std::vector<float> Values(uint64_t key, int64_t count) {
  std::vector<float> x = Normals(key, count);
  for (int64_t i = 0; i < count; i += 7) x[i] = kExtremes[(i / 7) % kExtremes.size()];
  return x;
}

TEST(FillNormal, WritesTheStreamOfItsKey) {
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> x(10001);
    kernels.FillNormal(View(x), 77, 0.02f);
    return x;
  });
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], 0.02f * StandardNormal(77, i)) << i;
}

TEST(Cast, RoundsToNearestEvenEverywhere) {
  for (int64_t n : {0, 1, 15, 16, 17, 1000, 8192, 50000}) {
    std::vector<float> x = Values(n, n);
    const auto got = SameOnEveryDevice([&](Kernels& kernels) {
      std::vector<Bf16> y(n);
      kernels.Cast(View(x), View(y));
      return y;
    });
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(got[i].bits, ToBf16(x[i]).bits) << x[i];
  }
}

TEST(Cast, WidensExactly) {
  std::vector<Bf16> x(65536);
  for (int i = 0; i < 65536; ++i) x[i].bits = static_cast<uint16_t>(i);
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> y(x.size());
    kernels.Cast(View(x), View(y));
    return y;
  });
  for (int i = 0; i < 65536; ++i) ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), static_cast<uint32_t>(i) << 16);
}

TEST(Cast, CopiesEqualTypesOfAnyKind) {
  std::vector<int64_t> x(10001);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<int64_t>(i * i) - 77;
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<int64_t> y(x.size());
    kernels.Cast(View(x), View(y));
    return y;
  });
  EXPECT_EQ(got, x);
}

TEST(Cast, WalksStridedRowsAndLeavesTheRestAlone) {
  std::vector<float> x = Normals(5, 4 * 3 * 40);
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<Bf16> y(4 * 3 * 50, Bf16{0x1234});
    kernels.Cast(View(x, {4, 3, 40}).Slice(2, 3, 33), View(y, {4, 3, 50}).Slice(2, 10, 33));
    return y;
  });
  for (int row = 0; row < 12; ++row) {
    for (int i = 0; i < 50; ++i) {
      const bool inside = i >= 10 && i < 43;
      ASSERT_EQ(got[row * 50 + i].bits, inside ? ToBf16(x[row * 40 + i - 7]).bits : 0x1234);
    }
  }
}

TEST(Cast, RefusesOtherShapesAndTypes) {
  BestKernels kernels;
  std::vector<float> x(12), y(12);
  std::vector<int32_t> integers(12);
  EXPECT_DEATH(kernels->Cast(View(x, {3, 4}), View(y, {4, 3})), "CHECK failed");
  EXPECT_DEATH(kernels->Cast(View(x, {3, 4}), View(y, {12})), "CHECK failed");
  EXPECT_DEATH(kernels->Cast(View(x), View(integers)), "CHECK failed");
}

TEST(Zero, ClearsOnlyItsElements) {
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<int64_t> x(40 * 300, 9);
    kernels.Zero(View(x, {40, 300}).Slice(1, 100, 150).Slice(0, 1, 38));
    kernels.Zero(View(x, {40, 300}).Slice(0, 5, 0));
    return x;
  });
  for (int row = 0; row < 40; ++row) {
    for (int i = 0; i < 300; ++i) {
      const bool inside = row >= 1 && row < 39 && i >= 100 && i < 250;
      ASSERT_EQ(got[row * 300 + i], inside ? 0 : 9);
    }
  }
}

TEST(Zero, ClearsLargeMemory) {
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> x(100003, 1.0f);
    kernels.Zero(View(x).Slice(0, 1, 100001));
    return x;
  });
  EXPECT_EQ(got.front(), 1.0f);
  EXPECT_EQ(got.back(), 1.0f);
  for (size_t i = 1; i + 1 < got.size(); ++i) ASSERT_EQ(got[i], 0.0f);
}

float AsFloat(float x) { return x; }
float AsFloat(Bf16 x) { return ToFloat(x); }
template <class T>
std::vector<T> To(const std::vector<float>& x) {
  if constexpr (std::is_same_v<T, float>) return x;
  if constexpr (std::is_same_v<T, Bf16>) return Rounded(x);
}

template <class A, class B, class Y>
void CheckAdd() {
  for (int64_t n : {0, 1, 31, 20000}) {
    std::vector<A> a = To<A>(Normals(1, n));
    std::vector<B> b = To<B>(Normals(2, n, 3));
    const auto got = SameOnEveryDevice([&](Kernels& kernels) {
      std::vector<Y> y(n);
      kernels.Add(View(a), View(b), View(y));
      return y;
    });
    std::vector<float> want(n);
    for (int64_t i = 0; i < n; ++i) want[i] = AsFloat(a[i]) + AsFloat(b[i]);
    const std::vector<Y> rounded = To<Y>(want);
    EXPECT_TRUE(n == 0 || std::memcmp(got.data(), rounded.data(), n * sizeof(Y)) == 0);
  }
}

TEST(Add, RoundsTheSumOnceInAllTypes) {
  CheckAdd<float, float, float>();
  CheckAdd<float, float, Bf16>();
  CheckAdd<float, Bf16, float>();
  CheckAdd<float, Bf16, Bf16>();
  CheckAdd<Bf16, float, float>();
  CheckAdd<Bf16, float, Bf16>();
  CheckAdd<Bf16, Bf16, float>();
  CheckAdd<Bf16, Bf16, Bf16>();
}

TEST(Add, WorksInPlaceAndOnStridedRows) {
  const std::vector<float> start = Normals(1, 7 * 50);
  std::vector<float> b = Normals(2, 7 * 20);
  const auto got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> y = start;
    const Tensor part = View(y, {7, 50}).Slice(1, 25, 20);
    kernels.Add(part, View(b, {7, 20}), part);
    return y;
  });
  for (int row = 0; row < 7; ++row) {
    for (int i = 0; i < 50; ++i) {
      const float addend = i >= 25 && i < 45 ? b[row * 20 + i - 25] : 0;
      ASSERT_EQ(got[row * 50 + i], start[row * 50 + i] + addend);
    }
  }
}

}  // namespace
}  // namespace conclave::core::test
