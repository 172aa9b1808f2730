// SPDX-License-Identifier: Apache-2.0
// The lookup bit by bit, and its gradient against one f32 chain per (row, id) in position order, rounded once.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "core/base/fixed_sum.h"
#include "tests/core/device/every_device.h"

namespace conclave::core::test {
namespace {

std::vector<int32_t> DrawIds(int64_t tokens, int32_t vocabulary, bool padding) {
  std::vector<int32_t> ids(tokens);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto words = Philox(3, t, 0);
    // Half of the tokens share one id: long chains next to short ones.
    ids[t] = words[0] % 2 ? vocabulary / 2 : static_cast<int32_t>(words[1] % vocabulary);
    if (padding && words[2] % 5 == 0) ids[t] = -1;
  }
  return ids;
}

TEST(Embedding, CopiesRowsAndZerosPadding) {
  for (int64_t hidden : {1, 16, 100, 300}) {
    std::vector<float> table = Normals(1, 50 * hidden);
    std::vector<int32_t> ids = DrawIds(77, 50, true);
    const auto plain = SameOnEveryDevice([&](Kernels& kernels) {
      std::vector<float> y(77 * hidden, NAN);
      kernels.Embedding(View(table, {50, hidden}), View(ids), View(y, {77, hidden}));
      return y;
    });
    const auto rounded = SameOnEveryDevice([&](Kernels& kernels) {
      std::vector<Bf16> y(77 * hidden);
      kernels.Embedding(View(table, {50, hidden}), View(ids), View(y, {77, hidden}));
      return y;
    });
    for (int64_t i = 0; i < 77 * hidden; ++i) {
      const int32_t id = ids[i / hidden];
      const float want = id < 0 ? 0 : table[id * hidden + i % hidden];
      ASSERT_EQ(plain[i], want);
      ASSERT_EQ(rounded[i].bits, ToBf16(want).bits);
    }
  }
}

TEST(Embedding, RefusesIdsOutsideTheVocabulary) {
  BestKernels kernels;
  std::vector<float> table(8), y(4);
  std::vector<int32_t> ids = {2};
  EXPECT_DEATH(kernels->Embedding(View(table, {2, 4}), View(ids), View(y, {1, 4})), "CHECK failed");
}

struct Problem {
  int64_t hidden;
  int32_t vocabulary;
  std::vector<int32_t> ids, row_offsets;
  std::vector<float> dy;
  float limit = 100;
};

Problem MakeProblem(int64_t rows, int64_t length, int64_t hidden, int32_t vocabulary) {
  Problem p{.hidden = hidden,
            .vocabulary = vocabulary,
            .ids = DrawIds(rows * length, vocabulary, true),
            .row_offsets = {},
            .dy = Normals(9, rows * length * hidden, 0.01f)};
  for (int64_t row = 0; row <= rows; ++row) p.row_offsets.push_back(static_cast<int32_t>(row * length));
  return p;
}

// The gradient sums, then the flag.
template <class T>
std::vector<int64_t> Gradient(Kernels& kernels, Problem p, std::vector<T> dy, std::vector<int64_t> start) {
  const auto tokens = static_cast<int64_t>(p.ids.size());
  std::vector<int32_t> flag = {0};
  std::vector<int64_t> workspace(kernels.EmbeddingGradWorkspace(tokens, p.hidden) / sizeof(int64_t));
  const GradientTarget target = {View(start, {p.vocabulary, p.hidden}), View(flag), p.limit};
  kernels.EmbeddingGrad(View(p.ids), View(dy, {tokens, p.hidden}), View(p.row_offsets), target, View(workspace));
  start.push_back(flag[0]);
  return start;
}

float AsFloat(float x) { return x; }
float AsFloat(Bf16 x) { return ToFloat(x); }

template <class T>
std::vector<int64_t> Reference(const Problem& p, const std::vector<T>& dy, std::vector<int64_t> sums) {
  for (size_t row = 0; row + 1 < p.row_offsets.size(); ++row) {
    std::map<int32_t, std::vector<float>> chains;
    for (int32_t t = p.row_offsets[row]; t < p.row_offsets[row + 1]; ++t) {
      if (p.ids[t] < 0) continue;
      std::vector<float>& chain = chains.try_emplace(p.ids[t], p.hidden, 0.0f).first->second;
      for (int64_t i = 0; i < p.hidden; ++i) chain[i] += AsFloat(dy[t * p.hidden + i]);
    }
    for (const auto& [id, chain] : chains) {
      for (int64_t i = 0; i < p.hidden; ++i)
        sums[id * p.hidden + i] += std::llrint(static_cast<double>(chain[i]) * 0x1p50);
    }
  }
  sums.push_back(0);
  return sums;
}

TEST(EmbeddingGrad, IsOneChainPerRowAndIdRoundedOnce) {
  for (auto [rows, length, hidden, vocabulary] : {std::tuple{1, 1, 1, 1},
                                                  {3, 50, 16, 7},
                                                  {2, 33, 100, 1000},
                                                  {4, 200, 130, 3},
                                                  {1, 700, 300, 40},
                                                  {0, 0, 16, 5}}) {
    const Problem p = MakeProblem(rows, length, hidden, vocabulary);
    const std::vector<int64_t> start(vocabulary * hidden, 5);  // it adds to what is there
    EXPECT_EQ(SameOnEveryDevice([&](Kernels& k) { return Gradient(k, p, p.dy, start); }), Reference(p, p.dy, start));
    const std::vector<Bf16> rounded = Rounded(p.dy);
    EXPECT_EQ(SameOnEveryDevice([&](Kernels& k) { return Gradient(k, p, rounded, start); }),
              Reference(p, rounded, start));
  }
}

TEST(EmbeddingGrad, OfMicroBatchesAddsUpToTheWhole) {
  const Problem p = MakeProblem(4, 60, 48, 11);
  const std::vector<int64_t> zero(11 * 48, 0);
  const auto whole = SameOnEveryDevice([&](Kernels& kernels) { return Gradient(kernels, p, p.dy, zero); });
  const auto in_parts = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<int64_t> sums = zero;
    for (auto [row, count] : {std::pair{2, 2}, {0, 1}, {1, 1}}) {
      Problem part = p;
      part.ids.assign(p.ids.begin() + row * 60, p.ids.begin() + (row + count) * 60);
      part.row_offsets.resize(count + 1);
      const std::vector<float> dy(p.dy.begin() + row * 60 * 48, p.dy.begin() + (row + count) * 60 * 48);
      sums = Gradient(kernels, part, dy, sums);
      EXPECT_EQ(sums.back(), 0);
      sums.pop_back();
    }
    sums.push_back(0);
    return sums;
  });
  EXPECT_EQ(whole, in_parts);
}

TEST(EmbeddingGrad, AddsToFloatSumsChainByChain) {
  const Problem p = MakeProblem(4, 60, 50, 11);
  const std::vector<int64_t> exact = Reference(p, p.dy, std::vector<int64_t>(11 * 50, 0));
  const std::vector<float> got = SameOnEveryDevice([&](Kernels& kernels) {
    std::vector<float> sums(11 * 50, 0.25f);
    std::vector<int32_t> flag = {0};
    std::vector<int64_t> workspace(kernels.EmbeddingGradWorkspace(240, 50) / sizeof(int64_t));
    std::vector<int32_t> ids = p.ids, row_offsets = p.row_offsets;
    std::vector<float> dy = p.dy;
    const GradientTarget target = {View(sums, {11, 50}), View(flag), p.limit};
    kernels.EmbeddingGrad(View(ids), View(dy, {240, 50}), View(row_offsets), target, View(workspace));
    EXPECT_EQ(flag[0], 0);
    return sums;
  });
  // At most four contributions, one a row, each addition rounded by at most 2^-25 of a sum below 1.
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], 0.25 + static_cast<double>(exact[i]) * kGradientUnit, 4 * 0x1p-24) << i;
  }
}

TEST(EmbeddingGrad, FlagsWhatIsTooLargeOrNotFinite) {
  for (float bad : {101.0f, -101.0f, static_cast<float>(NAN), HUGE_VALF, -HUGE_VALF}) {
    for (int64_t column : {0, 15, 16, 39}) {
      Problem p = MakeProblem(2, 20, 40, 6);
      p.ids[25] = 3;
      p.dy[25 * 40 + column] = bad;
      for (const std::string& target : AllDevices().targets()) {
        Device& device = AllDevices().Get(target, 2);
        const auto stream = device.CreateStream();
        EXPECT_EQ(Gradient(*device.CreateKernels(*stream), p, p.dy, std::vector<int64_t>(6 * 40)).back(), 1);
      }
    }
  }
}

}  // namespace
}  // namespace conclave::core::test
