// SPDX-License-Identifier: Apache-2.0
// Tokens exchanged between ranks against one rank that holds all experts: the same bits, and the bytes that the closed
// form says.
#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
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
  const MoeLayout& layout() const { return std::get<0>(GetParam()).layout; }
  DType dtype() const { return std::get<1>(GetParam()); }
  void ExpectBitsOfOneRank(const MoeProblem& problem) const {
    const MoeResult alone = RunMoeAlone(problem), ranks = RunMoeOnRanks(problem, layout());
    EXPECT_EQ(ranks.choices, alone.choices);
    EXPECT_TRUE(ranks.y == alone.y);
    EXPECT_TRUE(ranks.dx == alone.dx);
    EXPECT_EQ(ranks.sums, alone.sums);
  }
};

TEST_P(ExpertExchangeLaw, GivesTheBitsOfOneRankThatHoldsAllExperts) { ExpectBitsOfOneRank({.dtype = dtype()}); }

INSTANTIATE_TEST_SUITE_P(Layouts, ExpertExchangeLaw,
                         ::testing::Combine(::testing::ValuesIn(Layouts()),
                                            ::testing::Values(DType::kF32, DType::kBf16)),
                         [](const auto& info) {
                           return "ranks_" + std::get<0>(info.param).name + "_" + core::Name(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace conclave::parallel::test
