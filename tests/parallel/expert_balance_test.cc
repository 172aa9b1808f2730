// SPDX-License-Identifier: Apache-2.0
#include "parallel/expert_balance.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"

namespace conclave::parallel {
namespace {

// About one expert in eight is hot.
std::vector<int64_t> RandomLoad(int64_t experts, uint64_t seed) {
  std::vector<int64_t> load;
  for (int64_t e = 0; e < experts; ++e) {
    const auto draw = core::Philox(seed, e, 0);
    load.push_back(static_cast<int64_t>(draw[0] % 1000) * (draw[1] % 8 == 0 ? 20 : 1));
  }
  return load;
}

std::vector<int64_t> Counts(const ExpertPlacement& placement) {
  std::vector<int64_t> counts(placement.num_ranks, 0);
  for (int32_t rank : placement.rank_of) ++counts.at(rank);
  return counts;
}

TEST(ContiguousPlacement, GivesTheFirstRanksOneMore) {
  EXPECT_EQ(MakeContiguousPlacement(8, 3).rank_of, (std::vector<int32_t>{0, 0, 0, 1, 1, 1, 2, 2}));
  EXPECT_EQ(MakeContiguousPlacement(8, 3).ExpertsOf(1), (std::vector<int64_t>{3, 4, 5}));
  EXPECT_EQ(MakeContiguousPlacement(4, 1).rank_of, (std::vector<int32_t>{0, 0, 0, 0}));
}

TEST(BalancedPlacement, PacksTheLargestFirst) {
  // 9, 8, 7, 6 onto a rank each, 2 to 6, 1 to 7; then the lower id to 8 and the other to 9.
  const std::vector<int64_t> load = {0, 9, 1, 8, 2, 7, 0, 6};
  EXPECT_EQ(MakeBalancedPlacement(load, {.ranks_per_node = 4}).rank_of, (std::vector<int32_t>{1, 0, 2, 1, 3, 2, 0, 3}));
}

TEST(BalancedPlacement, KeepsGroupsOnOneNode) {
  // Groups weigh 30, 20, 14, 2: the first and the last share a node.
  const std::vector<int64_t> load = {10, 20, 5, 15, 13, 1, 1, 1};
  const ExpertPlacement placement = MakeBalancedPlacement(load, {.num_nodes = 2, .ranks_per_node = 2, .num_groups = 4});
  EXPECT_EQ(placement.rank_of, (std::vector<int32_t>{1, 0, 3, 2, 3, 2, 1, 0}));
}

TEST(BalancedPlacement, BeatsConsecutiveExpertsOnSkewedLoads) {
  const std::vector<int64_t> load = {100, 90, 80, 70, 1, 2, 3, 4};
  const int64_t contiguous = LargestRankLoad(load, MakeContiguousPlacement(8, 4));
  const int64_t balanced = LargestRankLoad(load, MakeBalancedPlacement(load, {.ranks_per_node = 4}));
  EXPECT_EQ(contiguous, 190);
  EXPECT_EQ(balanced, 101);
}

TEST(BalancedPlacement, TakesConsecutiveExpertsWhereGreedLoses) {
  // Greedy: 5 + 3 and 4 + 3 + 3.
  const std::vector<int64_t> load = {3, 3, 3, 4, 5};
  EXPECT_EQ(MakeBalancedPlacement(load, {.ranks_per_node = 2}).rank_of, (std::vector<int32_t>{0, 0, 0, 1, 1}));
}

struct Shape {
  int64_t experts;
  ExpertNodes nodes;
};

class BalancedPlacementLaw : public ::testing::TestWithParam<Shape> {};

TEST_P(BalancedPlacementLaw, IsNeverWorseThanConsecutiveExpertsNorUnevenByMoreThanOneAndKeepsGroups) {
  const auto& [experts, nodes] = GetParam();
  const int ranks = nodes.num_nodes * nodes.ranks_per_node;
  int64_t better = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<int64_t> load = RandomLoad(experts, seed);
    const ExpertPlacement placement = MakeBalancedPlacement(load, nodes);
    ASSERT_EQ(placement.rank_of.size(), load.size());
    const std::vector<int64_t> counts = Counts(placement);
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    EXPECT_LE(*most - *least, 1);
    const int64_t balanced = LargestRankLoad(load, placement);
    const int64_t contiguous = LargestRankLoad(load, MakeContiguousPlacement(experts, ranks));
    if (experts % ranks == 0 || nodes.num_groups == 1) {
      EXPECT_LE(balanced, contiguous);
    }
    better += balanced < contiguous;
    EXPECT_EQ(MakeBalancedPlacement(load, nodes), placement);
    const bool by_group = nodes.num_groups > 1 && nodes.num_groups % nodes.num_nodes == 0;
    for (int64_t e = 0; by_group && e < experts; ++e) {
      const int64_t first_of_group = e - e % (experts / nodes.num_groups);
      EXPECT_EQ(placement.rank_of[e] / nodes.ranks_per_node, placement.rank_of[first_of_group] / nodes.ranks_per_node);
    }
  }
  if (ranks > 1 && ranks < experts) {
    EXPECT_GT(better, 20);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, BalancedPlacementLaw,
                         ::testing::Values(Shape{16, {1, 1, 1}}, Shape{16, {1, 16, 1}}, Shape{17, {1, 4, 1}},
                                           Shape{64, {2, 4, 8}}, Shape{256, {8, 8, 8}}, Shape{256, {4, 8, 8}},
                                           Shape{48, {2, 5, 4}}, Shape{60, {4, 2, 6}}, Shape{7, {1, 6, 1}}));

}  // namespace
}  // namespace conclave::parallel
