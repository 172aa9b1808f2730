// SPDX-License-Identifier: Apache-2.0
// Philox against the published vectors; distributions by their moments; the permutation is a bijection.
#include "core/base/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace conclave::core {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, MatchesThePublishedVectors) {  // kat_vectors of Random123
  EXPECT_EQ(Philox(0, 0, 0), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox(~0ull, ~0ull, ~0ull), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomKey, DiffersInSeedPurposeAndId) {
  std::set<uint64_t> keys;
  for (uint64_t seed : {0, 1, 2}) {
    for (RandomPurpose purpose : {RandomPurpose::kInit, RandomPurpose::kDataOrder, RandomPurpose::kSampling}) {
      for (uint64_t id = 0; id < 100; ++id) keys.insert(RandomKey(seed, purpose, id));
    }
  }
  EXPECT_EQ(keys.size(), 900u);
}

TEST(UniformFloat, StaysBelowOne) {
  EXPECT_EQ(UniformFloat(0), 0.0f);
  EXPECT_LT(UniformFloat(0xffffffffu), 1.0f);
  EXPECT_EQ(UniformFloat(0x80000000u), 0.5f);
}

TEST(StandardNormal, HasTheMomentsAndTailsOfANormal) {
  constexpr int kDraws = 400000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, last = 0;
  int beyond_two = 0;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double x = StandardNormal(42, i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    neighbours += x * last;
    beyond_two += std::fabs(x) > 2;
    last = x;
  }
  // Five standard errors each.
  EXPECT_NEAR(sum / kDraws, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3, 5 * std::sqrt(96.0 / kDraws));
  EXPECT_NEAR(neighbours / kDraws, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(static_cast<double>(beyond_two) / kDraws, 0.0455, 5 * std::sqrt(0.0455 / kDraws));
}

TEST(StandardNormal, IsAPureFunctionOfKeyAndIndex) {
  EXPECT_EQ(StandardNormal(3, 17), StandardNormal(3, 17));
  EXPECT_NE(StandardNormal(3, 17), StandardNormal(3, 18));
  EXPECT_NE(StandardNormal(3, 17), StandardNormal(4, 17));
}

TEST(KeyedPermutation, IsABijectionForEverySizeUpTo300) {
  for (uint64_t size = 1; size <= 300; ++size) {
    const KeyedPermutation permutation(size * 11, size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t to = permutation(i);
      ASSERT_LT(to, size);
      ASSERT_FALSE(seen[to]) << "size " << size << " hits " << to << " twice";
      seen[to] = true;
    }
  }
}

TEST(KeyedPermutation, IsABijectionForLargerSizes) {
  for (uint64_t size : {4095, 4096, 4097, 65537}) {
    const KeyedPermutation permutation(5, size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) seen[permutation(i)] = true;
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<std::ptrdiff_t>(size));
  }
}

TEST(KeyedPermutation, StaysInRangesOfAnySize) {
  for (uint64_t size : {(uint64_t{1} << 40) + 1, uint64_t{1} << 62, ~uint64_t{0}}) {
    const KeyedPermutation permutation(9, size);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t to = permutation(size - 1 - i);
      EXPECT_LT(to, size);
      seen.insert(to);
    }
    EXPECT_EQ(seen.size(), 1000u);
  }
}

TEST(KeyedPermutation, MovesNearlyAllAndDependsOnTheKey) {
  const KeyedPermutation a(1, 1000), b(2, 1000);
  int fixed = 0, same = 0, in_order = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    fixed += a(i) == i;
    same += a(i) == b(i);
    in_order += i > 0 && a(i) > a(i - 1);
  }
  EXPECT_LT(fixed, 10);
  EXPECT_LT(same, 10);
  EXPECT_NEAR(in_order, 500, 60);
}

TEST(KeyedPermutation, RefusesAnIndexOutside) {
  EXPECT_DEATH(KeyedPermutation(1, 10)(10), "CHECK failed");
  EXPECT_DEATH(KeyedPermutation(1, 0)(0), "CHECK failed");
}

}  // namespace
}  // namespace conclave::core
