// SPDX-License-Identifier: Apache-2.0
// A permutation by hand, and the order of Combine's chain, which tolerances cannot see.
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/devices.h"
#include "tests/support/host_array.h"

namespace conclave::core::test {
namespace {

using Ids = std::vector<int32_t>;

class Permute : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Device> device_ = CreateCpuDevice(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = device_->CreateStream();
  std::unique_ptr<Kernels> kernels_ = device_->CreateKernels(*stream_);
};

TEST_P(Permute, OrdersByExpertThenRowThenPosition) {
  // Two rows of three tokens, two choices of three experts; token 1 is padding.
  HostArray<int32_t> experts({6, 2}, {0, 2, -1, -1, 0, 1, 1, 2, 0, 2, 0, 1});
  HostArray<int32_t> slot({6, 2}), token({12}), expert_offsets({4}), segment_offsets({7}), rows({3}, {0, 3, 6});
  kernels_->BuildPermutation(experts.tensor, 3, rows.tensor,
                             {.slot = slot.tensor,
                              .token = token.tensor,
                              .expert_offsets = expert_offsets.tensor,
                              .segment_offsets = segment_offsets.tensor});
  EXPECT_EQ(expert_offsets.values, (Ids{0, 4, 7, 10}));
  EXPECT_EQ(segment_offsets.values, (Ids{0, 2, 4, 5, 7, 8, 10}));
  EXPECT_EQ(slot.values, (Ids{0, 7, -1, -1, 1, 4, 5, 8, 2, 9, 3, 6}));
  token.values.resize(10);
  EXPECT_EQ(token.values, (Ids{0, 2, 4, 5, 2, 3, 5, 0, 3, 4}));
}

TEST_P(Permute, AcceptsRowsOfAnyLength) {
  // Rows of no, three and one tokens, as they arrive from other ranks.
  HostArray<int32_t> experts({4, 1}, {1, 0, 1, 0}), rows({4}, {0, 0, 3, 4});
  HostArray<int32_t> slot({4, 1}), token({4}), expert_offsets({3}), segment_offsets({7});
  kernels_->BuildPermutation(experts.tensor, 2, rows.tensor,
                             {.slot = slot.tensor,
                              .token = token.tensor,
                              .expert_offsets = expert_offsets.tensor,
                              .segment_offsets = segment_offsets.tensor});
  EXPECT_EQ(segment_offsets.values, (Ids{0, 0, 1, 2, 2, 4, 4}));
  EXPECT_EQ(slot.values, (Ids{2, 0, 3, 1}));
}

TEST_P(Permute, MapsExpertsToRanksOnceOrForEachChoice) {
  HostArray<int32_t> experts({4, 3}, {0, 1, 3, -1, -1, -1, 0, 2, 4, 1, 3, 4}), map({5}, {1, 0, 1, 0, 1}), y({4, 3});
  kernels_->MapExperts(experts.tensor, map.tensor, Repeats::kKeep, y.tensor);
  EXPECT_EQ(y.values, (Ids{1, 0, 0, -1, -1, -1, 1, 1, 1, 0, 0, 1}));
  kernels_->MapExperts(experts.tensor, map.tensor, Repeats::kOnce, y.tensor);
  EXPECT_EQ(y.values, (Ids{1, 0, -1, -1, -1, -1, 1, -1, -1, 0, -1, 1}));
}

TEST_P(Permute, ListsTheSlotsOfChoicesThatHaveOne) {
  HostArray<int32_t> slot({3, 2}, {4, -1, -1, -1, 0, 2}), list({4}, {9, 9, 9, 9});
  kernels_->ListSlots(slot.tensor, list.tensor);
  EXPECT_EQ(list.values, (Ids{4, 0, 2, 9}));
}

TEST_P(Permute, GathersMoreThanCachesHold) {
  // 16 MiB, which go past the caches, and as much with rows that no vector store reaches.
  for (const int64_t hidden : {1024, 1023}) {
    constexpr int64_t kRows = 4096, kTokens = 61;
    HostArray<float> x({kTokens, hidden}), y({kRows, hidden});
    HostArray<int32_t> token({kRows}), offsets({2}, {0, static_cast<int32_t>(kRows)});
    for (size_t i = 0; i < x.values.size(); ++i) x.values[i] = static_cast<float>(i);
    for (int64_t i = 0; i < kRows; ++i) token.values[i] = static_cast<int32_t>(i * 7 % kTokens);
    kernels_->GatherRows(x.tensor, {.token = token.tensor, .expert_offsets = offsets.tensor}, y.tensor);
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < hidden; j += 31) {
        ASSERT_EQ(y.values[i * hidden + j], x.values[token.values[i] * hidden + j]) << "row " << i;
      }
    }
  }
}

TEST_P(Permute, CombinesInOneF32ChainFromSharedOverAscendingExpertsToTheAddend) {
  // Terms whose f32 sum differs with the order: 1 + 2^-24 three times, then -1.
  constexpr int64_t kHidden = 21;
  const float tiny = 0x1p-24f;
  HostArray<float> rows({3, kHidden}), shared({2, kHidden}), addend({2, kHidden}), y({2, kHidden});
  for (size_t i = 0; i < kHidden; ++i) {
    const float x = 1 + static_cast<float>(i);
    rows.values[i] = tiny * x;            // slot 0
    rows.values[kHidden + i] = tiny * x;  // slot 1
    rows.values[2 * kHidden + i] = -x;    // slot 2
    shared.values[i] = shared.values[kHidden + i] = x;
    addend.values[i] = addend.values[kHidden + i] = tiny;
  }
  HostArray<int32_t> slot({2, 3}, {0, 1, 2, 2, 0, -1});
  kernels_->Combine(
      {.rows = rows.tensor, .slot = slot.tensor, .shared = shared.tensor, .addend = addend.tensor, .y = y.tensor});
  for (size_t i = 0; i < kHidden; ++i) {
    const float x = 1 + static_cast<float>(i);
    const volatile float first = x + tiny * x, second = first + tiny * x;
    EXPECT_EQ(y.values[i], (second - x) + tiny);
    EXPECT_EQ(y.values[kHidden + i], tiny * x + tiny);  // (x - x) + tiny x + tiny
  }
}

TEST_P(Permute, RoundsACombinedRowOnce) {
  // In bf16 2^-8 is half an ulp of 1: two of them survive only if the chain is f32.
  HostArray<Bf16> rows({2, 1}, {ToBf16(0x1p-8f), ToBf16(0x1p-8f)}), y({1, 1});
  HostArray<float> shared({1, 1}, {1.0f});
  HostArray<int32_t> slot({1, 2}, {0, 1});
  kernels_->Combine({.rows = rows.tensor, .slot = slot.tensor, .shared = shared.tensor, .addend = {}, .y = y.tensor});
  EXPECT_EQ(ToFloat(y.values[0]), 1 + 0x1p-7f);
}

INSTANTIATE_TEST_SUITE_P(Targets, Permute, testing::ValuesIn(Devices().targets()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace conclave::core::test
