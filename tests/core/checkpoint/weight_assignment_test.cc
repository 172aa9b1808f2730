// SPDX-License-Identifier: Apache-2.0
// Who writes which weight: one answer for all ranks, and nobody has much more to write than it must.
#include "core/checkpoint/weight_assignment.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace conclave::core {
namespace {

std::vector<int64_t> Loads(const std::vector<HeldWeight>& weights, int num_ranks) {
  std::vector<int64_t> loads(static_cast<size_t>(num_ranks));
  const std::vector<int> writers = AssignWeights(weights, num_ranks);
  for (size_t i = 0; i < weights.size(); ++i) loads[static_cast<size_t>(writers[i])] += weights[i].bytes;
  return loads;
}

TEST(AssignWeights, GivesTheLargestFirstToTheHolderWithLeastToWrite) {
  const std::vector<HeldWeight> weights = {{"c", 40, {0, 1}}, {"a", 100, {0, 1}}, {"b", 70, {0, 1}}, {"d", 10, {0, 1}}};
  EXPECT_EQ(AssignWeights(weights, 2), (std::vector<int>{1, 0, 1, 0}));
}

TEST(AssignWeights, BreaksTiesByNameThenByLowerRank) {
  EXPECT_EQ(AssignWeights(std::vector<HeldWeight>{{"b", 8, {2, 1, 0}}, {"c", 8, {0, 1, 2}}, {"a", 8, {1, 2, 0}}}, 3),
            (std::vector<int>{1, 2, 0}));
}

TEST(AssignWeights, CountsFirstWhatOnlyOneRankHolds) {
  const std::vector<HeldWeight> weights = {{"shared", 60, {0, 1}}, {"expert.0", 50, {0}}, {"expert.1", 50, {0}}};
  EXPECT_EQ(AssignWeights(weights, 2), (std::vector<int>{1, 0, 0}));
}

std::vector<HeldWeight> RandomWeights(std::mt19937& random, int num_ranks) {
  std::vector<HeldWeight> weights;
  for (int i = 0; i < 50; ++i) {
    std::vector<int> holders;
    while (holders.empty()) {
      for (int rank = 0; rank < num_ranks; ++rank) {
        if (random() % 2 == 0) holders.push_back(rank);
      }
    }
    weights.push_back({"w" + std::to_string(i), static_cast<int64_t>(random() % 4) * 64, holders});
  }
  return weights;
}

TEST(AssignWeights, DependsNeitherOnTheOrderOfWeightsNorOnThatOfHolders) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 50; ++trial) {
    const int num_ranks = 1 + static_cast<int>(random() % 6);
    std::vector<HeldWeight> weights = RandomWeights(random, num_ranks);
    std::map<std::string, int> writers;
    const std::vector<int> assigned = AssignWeights(weights, num_ranks);
    for (size_t i = 0; i < weights.size(); ++i) {
      EXPECT_TRUE(std::count(weights[i].holders.begin(), weights[i].holders.end(), assigned[i]) == 1);
      writers[weights[i].name] = assigned[i];
    }
    std::shuffle(weights.begin(), weights.end(), random);
    for (HeldWeight& weight : weights) std::shuffle(weight.holders.begin(), weight.holders.end(), random);
    const std::vector<int> again = AssignWeights(weights, num_ranks);
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_EQ(again[i], writers[weights[i].name]) << weights[i].name;
  }
}

// Of identical machines, the longest-first rule is at most 4/3 - 1/(3 n) of the best; the mean and the largest weight
// bound the best from below.
TEST(AssignWeights, IsBalancedWhereAllHoldAll) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    const int num_ranks = 2 + static_cast<int>(random() % 7);
    std::vector<HeldWeight> weights = RandomWeights(random, num_ranks);
    int64_t total = 0;
    for (HeldWeight& weight : weights) {
      weight.holders.resize(static_cast<size_t>(num_ranks));
      std::iota(weight.holders.begin(), weight.holders.end(), 0);
      weight.bytes += 1 + static_cast<int64_t>(random() % 300);
      total += weight.bytes;
    }
    const std::vector<int64_t> loads = Loads(weights, num_ranks);
    EXPECT_EQ(std::accumulate(loads.begin(), loads.end(), int64_t{0}), total);
    EXPECT_LE(*std::max_element(loads.begin(), loads.end()) * num_ranks, total + total / 3);
  }
}

}  // namespace
}  // namespace conclave::core
