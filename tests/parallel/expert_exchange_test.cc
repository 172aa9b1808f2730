// SPDX-License-Identifier: Apache-2.0
// Tokens exchanged between ranks against one rank that holds all experts: the same bits, and the bytes that the closed
// form says.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "parallel/expert_exchange.h"
#include "tests/parallel/moe_on_ranks.h"

namespace conclave::parallel::test {
namespace {

using core::DType;

ExpertPlacement Placement(int num_ranks, std::vector<int32_t> rank_of) {
  return {.num_ranks = num_ranks, .rank_of = std::move(rank_of)};
}

struct NamedLayout {
  std::string name;
  MoeLayout layout;
};

// Seven experts: they never divide evenly.
std::vector<NamedLayout> Layouts() {
  return {
      {"one", {{8}, 0, MakeContiguousPlacement(7, 1)}},
      {"two", {{4, 4}, 0, MakeContiguousPlacement(7, 2)}},
      {"two_permuted", {{3, 5}, 0, Placement(2, {1, 0, 1, 1, 1, 0, 1})}},
      {"three", {{3, 2, 3}, 0, MakeContiguousPlacement(7, 3)}},
      {"four_permuted", {{2, 2, 2, 2}, 0, Placement(4, {3, 1, 0, 2, 1, 3, 1})}},
      {"four_one_without_rows", {{5, 0, 2, 1}, 0, MakeContiguousPlacement(7, 4)}},
      {"six", {{1, 2, 1, 2, 1, 1}, 0, Placement(6, {5, 4, 3, 2, 1, 0, 0})}},
      {"2x2", {{2, 2, 2, 2}, 2, MakeContiguousPlacement(7, 4)}},
      {"2x2_permuted", {{1, 3, 4, 0}, 2, Placement(4, {3, 1, 0, 2, 1, 3, 1})}},
      {"2x3", {{1, 2, 1, 2, 1, 1}, 2, Placement(6, {5, 4, 3, 2, 1, 0, 0})}},
      {"3x2", {{1, 2, 1, 2, 1, 1}, 3, MakeContiguousPlacement(7, 6)}},
      {"1x2", {{4, 4}, 1, MakeContiguousPlacement(7, 2)}},
      {"2x1", {{4, 4}, 2, MakeContiguousPlacement(7, 2)}},
  };
}

class ExpertExchangeLaw : public ::testing::TestWithParam<std::tuple<NamedLayout, DType>> {
 protected:
  MoeLayout layout_ = std::get<0>(GetParam()).layout;
  const DType dtype_ = std::get<1>(GetParam());

  void ExpectBitsOfOneRank(MoeProblem problem) const {
    problem.dtype = dtype_;
    const MoeResult alone = RunMoeAlone(problem), ranks = RunMoeOnRanks(problem, layout_);
    EXPECT_EQ(ranks.choices, alone.choices);
    EXPECT_TRUE(ranks.y == alone.y);
    EXPECT_TRUE(ranks.dx == alone.dx);
    EXPECT_EQ(ranks.sums, alone.sums);
    EXPECT_TRUE(ranks.planned == ranks.measured);
    int64_t routed = 0;
    for (const core::ExchangeRows& rows : ranks.rows) routed += rows.routed;
    EXPECT_EQ(routed, std::count_if(alone.choices.begin(), alone.choices.end(), [](int32_t e) { return e >= 0; }));
  }
};

TEST_P(ExpertExchangeLaw, GivesTheBitsOfOneRankThatHoldsAllExperts) { ExpectBitsOfOneRank({}); }

TEST_P(ExpertExchangeLaw, HoldsWhenAllTokensGoToOneExpert) {
  ExpectBitsOfOneRank({.top_k = 1, .bias = {0, 0, 0, 0, 100, 0, 0}, .shared_expert = false});
}

TEST_P(ExpertExchangeLaw, HoldsWhenSomeExpertsAndRanksGetNoTokens) {
  ExpectBitsOfOneRank({.top_k = 2, .bias = {-100, -100, 0, 0, -100, 0, -100}});
}

TEST_P(ExpertExchangeLaw, HoldsWhenEveryTokenGoesToEveryExpert) { ExpectBitsOfOneRank({.top_k = 7}); }

TEST_P(ExpertExchangeLaw, HoldsForRowsOfPaddingAlone) { ExpectBitsOfOneRank({.padding = 9}); }

TEST_P(ExpertExchangeLaw, HoldsForwardOnly) { ExpectBitsOfOneRank({.mode = core::PassMode::kForwardOnly}); }

TEST_P(ExpertExchangeLaw, BringsTheSameBitsTheSecondTime) {
  layout_.repeats = 2;  // sums are added up, activations are not
  const MoeProblem problem{.dtype = dtype_};
  MoeResult alone = RunMoeAlone(problem), ranks = RunMoeOnRanks(problem, layout_);
  for (auto& [name, sum] : alone.sums) {
    for (int64_t& each : sum) each *= 2;
  }
  EXPECT_TRUE(ranks.y == alone.y);
  EXPECT_TRUE(ranks.dx == alone.dx);
  EXPECT_EQ(ranks.sums, alone.sums);
}

// What each rank sends in one forward and backward pass, by the choices of the tokens.
struct SentBytes {
  std::vector<int64_t> first, second;
};

SentBytes ClosedForm(const MoeProblem& problem, const MoeLayout& layout, const std::vector<int32_t>& choices) {
  const int64_t ranks = static_cast<int64_t>(layout.rank_rows.size());
  const int64_t per_node = layout.nodes > 0 ? ranks / layout.nodes : 1;  // one hop: each rank is a node
  const int64_t row = problem.hidden * SizeOf(problem.dtype), id_and_weight = 8;
  const int64_t copy = 2 * row + problem.top_k * id_and_weight;  // x with ids and weights, dy
  const bool summed = layout.returned == ReturnedRows::kSummed;
  SentBytes sent{std::vector<int64_t>(ranks, 0), std::vector<int64_t>(ranks, 0)};
  int64_t token = 0;
  for (int64_t home = 0; home < ranks; ++home) {
    for (int64_t i = 0; i < layout.rank_rows[home] * problem.length; ++i, ++token) {
      std::set<int64_t> nodes, targets;
      for (int64_t j = 0; j < problem.top_k; ++j) {
        const int32_t expert = choices[token * problem.top_k + j];
        if (expert < 0) continue;
        const int64_t target = layout.placement.rank_of[expert], node = target / per_node;
        const int64_t forwarder = node * per_node + home % per_node;
        // The gradient of the weight and, unless they are added, forward and backward rows.
        const int64_t returned = 4 + (summed ? 0 : 2 * row);
        if (node != home / per_node) sent.first[forwarder] += returned;
        if (target != forwarder) sent.second[target] += returned;
        if (nodes.insert(node).second && node != home / per_node) {
          sent.first[home] += copy;
          if (summed) sent.first[forwarder] += 2 * row;
        }
        if (targets.insert(target).second && target != forwarder) {
          sent.second[forwarder] += copy;
          if (summed) sent.second[target] += 2 * row;
        }
      }
    }
  }
  // Counts: two messages of a number for each row and one more.
  for (int64_t rank = 0; rank < ranks; ++rank) {
    int64_t forwarded = 0;
    for (int64_t r = rank % per_node; r < ranks; r += per_node) forwarded += layout.rank_rows[r];
    sent.first[rank] += 2 * 4 * (ranks / per_node - 1) * (layout.rank_rows[rank] + 1);
    sent.second[rank] += 2 * 4 * (per_node - 1) * (forwarded + 1);
  }
  return sent;
}

TEST_P(ExpertExchangeLaw, SendsOneCopyToEachRankOrNodeAndOneRowHomeForEachChoice) {
  const MoeProblem problem{.dtype = dtype_};
  const MoeResult ranks = RunMoeOnRanks(problem, layout_);
  const SentBytes expected = ClosedForm(problem, layout_, ranks.choices);
  EXPECT_EQ(ranks.first_bytes, expected.first);
  EXPECT_EQ(ranks.second_bytes, expected.second);
}

double MaxDifference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

std::vector<double> ToDoubles(DType dtype, const std::vector<unsigned char>& bytes) {
  core::test::Array array;
  array.dtype = dtype;
  array.shape = {static_cast<int64_t>(bytes.size()) / SizeOf(dtype)};
  array.bytes = bytes;
  return array.ToDoubles();
}

TEST_P(ExpertExchangeLaw, SummedRowsSendFewerBytesAndStayClose) {
  layout_.returned = ReturnedRows::kSummed;
  const MoeProblem problem{.dtype = dtype_};
  const MoeResult alone = RunMoeAlone(problem), ranks = RunMoeOnRanks(problem, layout_);
  EXPECT_EQ(ranks.choices, alone.choices);
  EXPECT_TRUE(ranks.planned == ranks.measured);
  const SentBytes expected = ClosedForm(problem, layout_, ranks.choices);
  EXPECT_EQ(ranks.first_bytes, expected.first);
  EXPECT_EQ(ranks.second_bytes, expected.second);
  // Values are of magnitude 10; a sum on the way is one more rounding for each hop.
  const double tolerance = dtype_ == DType::kF32 ? 1e-5 : 0.25;
  EXPECT_LT(MaxDifference(ToDoubles(dtype_, ranks.y), ToDoubles(dtype_, alone.y)), tolerance);
  EXPECT_LT(MaxDifference(ToDoubles(dtype_, ranks.dx), ToDoubles(dtype_, alone.dx)), tolerance);
  // The experts read what they would read otherwise; weights come home unsummed.
  EXPECT_EQ(ranks.sums, alone.sums);
}

INSTANTIATE_TEST_SUITE_P(Layouts, ExpertExchangeLaw,
                         ::testing::Combine(::testing::ValuesIn(Layouts()),
                                            ::testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& info) {
                           return "ranks_" + std::get<0>(info.param).name + "_" + core::Name(std::get<1>(info.param));
                         });

// Two experts of each token on each rank: half of the rows go home.
TEST(SummedRows, HalveWhatGoesHomeWhereTwoExpertsOfATokenShareARank) {
  const MoeProblem problem{.experts = 4, .top_k = 4, .padding = 0};
  MoeLayout layout{.rank_rows = {4, 4}, .nodes = 0, .placement = MakeContiguousPlacement(4, 2)};
  const int64_t each = RunMoeOnRanks(problem, layout).first_bytes[0];
  layout.returned = ReturnedRows::kSummed;
  const int64_t summed = RunMoeOnRanks(problem, layout).first_bytes[0];
  const int64_t tokens = 4 * problem.length, row = problem.hidden * 4;
  EXPECT_EQ(each - summed, 2 * tokens * row);
}

}  // namespace
}  // namespace conclave::parallel::test
