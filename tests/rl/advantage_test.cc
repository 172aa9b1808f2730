// SPDX-License-Identifier: Apache-2.0
// Advantages against cases worked by hand.
#include "rl/advantage.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace conclave::rl {
namespace {

Group GroupOf(const std::vector<double>& rewards) {
  Group group;
  for (const double reward : rewards) {
    Episode& episode = group.episodes.emplace_back();
    episode.reward = reward;
  }
  return group;
}

std::vector<double> AdvantagesOf(const std::vector<Group>& groups) {
  std::vector<double> out;
  for (const Group& group : groups) {
    for (const Episode& episode : group.episodes) out.push_back(episode.advantage);
  }
  return out;
}

void ExpectAdvantages(const core::AdvantageConfig& config, std::vector<Group> groups,
                      const std::vector<double>& expected) {
  ComputeAdvantages(config, groups);
  const std::vector<double> found = AdvantagesOf(groups);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-12) << i;
}

// Rewards 1 0 0 1 of mean 1/2: deviation sqrt(4 * (1/4) / 3) of the sample, 1/2 of the population.
TEST(Advantage, OfAGroupIsRelativeToItsMeanAndDeviation) {
  const double sample = std::sqrt(1.0 / 3);
  ExpectAdvantages({.baseline = "group", .std = "sample", .eps = 1e-4}, {GroupOf({1, 0, 0, 1})},
                   {0.5 / (sample + 1e-4), -0.5 / (sample + 1e-4), -0.5 / (sample + 1e-4), 0.5 / (sample + 1e-4)});
  ExpectAdvantages({.baseline = "group", .std = "population", .eps = 1e-9}, {GroupOf({1, 0, 0, 1})},
                   {0.5 / (0.5 + 1e-9), -0.5 / (0.5 + 1e-9), -0.5 / (0.5 + 1e-9), 0.5 / (0.5 + 1e-9)});
  ExpectAdvantages({.baseline = "group", .std = "none"}, {GroupOf({1, 0, 0, 1}), GroupOf({4, 0})},
                   {0.5, -0.5, -0.5, 0.5, 2, -2});
}

// RLOO: 3 - (0 + 0) / 2 = 3, 0 - (3 + 0) / 2 = -1.5; n / (n - 1) times the distance from the mean, 2 and -1.
TEST(Advantage, LeaveOneOutComparesWithTheOthers) {
  ExpectAdvantages({.baseline = "leave_one_out", .std = "none"}, {GroupOf({3, 0, 0})}, {3, -1.5, -1.5});
}

// Rewards 1 2 | 3 6: mean 3, squares 4 + 1 + 0 + 9 = 14, deviation sqrt(14 / 3).
TEST(Advantage, OfABatchIsRelativeToAllOfIt) {
  const double deviation = std::sqrt(14.0 / 3) + 1e-8;
  ExpectAdvantages({.baseline = "batch", .std = "batch", .eps = 1e-8}, {GroupOf({1, 2}), GroupOf({3, 6})},
                   {-2 / deviation, -1 / deviation, 0, 3 / deviation});
  // Group means first, then whitened: -1/2 1/2 | -3/2 3/2, squares 5, deviation sqrt(5 / 3).
  const double rest = std::sqrt(5.0 / 3) + 1e-8;
  ExpectAdvantages({.baseline = "group", .std = "batch", .eps = 1e-8}, {GroupOf({1, 2}), GroupOf({3, 6})},
                   {-0.5 / rest, 0.5 / rest, -1.5 / rest, 1.5 / rest});
}

TEST(Advantage, IsZeroWhereRewardsAreAllEqual) {
  for (const char* std : {"sample", "population", "batch", "none"}) {
    ExpectAdvantages({.baseline = "group", .std = std}, {GroupOf({0.3, 0.3, 0.3}), GroupOf({1})}, {0, 0, 0, 0});
  }
  EXPECT_FALSE(HasSpread(GroupOf({0.3, 0.3, 0.3})));
  EXPECT_FALSE(HasSpread(GroupOf({1})));
  EXPECT_TRUE(HasSpread(GroupOf({1, 0})));
}

TEST(Advantage, LeavesOutWhatDoesNotCount) {
  std::vector<Group> groups = {GroupOf({1, 0, 100}), GroupOf({5, 7})};
  groups[0].episodes[2].counted = false;
  groups[1].kept = false;
  ComputeAdvantages({.baseline = "group", .std = "none"}, groups);
  EXPECT_EQ(AdvantagesOf(groups), (std::vector<double>{0.5, -0.5, 0, 0, 0}));
  ComputeAdvantages({.baseline = "batch", .std = "none"}, groups);
  EXPECT_EQ(AdvantagesOf(groups), (std::vector<double>{0.5, -0.5, 0, 0, 0}));
}

// d = log(1/2) of a token whose probability is twice that of the reference.
TEST(KlEstimate, FollowsSchulman) {
  const double d = std::log(0.5);
  EXPECT_NEAR(KlEstimate("k1", std::log(0.4), std::log(0.2)), -d, 1e-12);
  EXPECT_NEAR(KlEstimate("k2", std::log(0.4), std::log(0.2)), d * d / 2, 1e-12);
  EXPECT_NEAR(KlEstimate("k3", std::log(0.4), std::log(0.2)), 0.5 - d - 1, 1e-12);
  EXPECT_EQ(KlEstimate("k3", -1.25, -1.25), 0);
}

std::vector<Group> WithReference() {
  std::vector<Group> groups = {GroupOf({1, 0})};
  groups[0].episodes[0].completion.log_probs = {-1, -2};
  groups[0].episodes[0].reference_log_probs = {-1.5, -2};
  groups[0].episodes[1].completion.log_probs = {-1};
  groups[0].episodes[1].reference_log_probs = {-0.5};
  return groups;
}

TEST(KlInTheReward, IsSubtractedFromAResponse) {
  std::vector<Group> groups = WithReference();
  ComputeKlPenalties({.coefficient = 0.1, .estimator = "k1"}, groups);
  EXPECT_EQ(groups[0].episodes[0].reward, 1);  // what the verifier said stays
  EXPECT_NEAR(groups[0].episodes[0].kl_penalty, 0.1 * 0.5, 1e-9);
  EXPECT_NEAR(groups[0].episodes[1].kl_penalty, -0.1 * 0.5, 1e-9);
  ComputeAdvantages({.baseline = "group", .std = "none"}, groups);
  EXPECT_NEAR(groups[0].episodes[0].advantage, 0.5 - 0.1 * 0.5, 1e-9);
  EXPECT_NEAR(groups[0].episodes[1].advantage, 0.1 * 0.5 - 0.5, 1e-9);
}

// Returns: token 0 of the first sample sees 1 - 0.1 * 0.5 = 0.95, its token 1 sees 1; the second sample 0.05.
TEST(KlInTheReward, OfABatchIsWhatFollowsAToken) {
  std::vector<Group> groups = WithReference();
  ComputeTokenAdvantages({.coefficient = 0.1, .estimator = "k1"}, 1e-8, groups);
  const double values[] = {0.95, 1, 0.05}, mean = 2.0 / 3;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double deviation = std::sqrt(squares / 2) + 1e-8;
  ASSERT_EQ(groups[0].episodes[0].token_advantages.size(), 2u);
  EXPECT_NEAR(groups[0].episodes[0].token_advantages[0], (0.95 - mean) / deviation, 1e-6);
  EXPECT_NEAR(groups[0].episodes[0].token_advantages[1], (1 - mean) / deviation, 1e-6);
  EXPECT_NEAR(groups[0].episodes[1].token_advantages.at(0), (0.05 - mean) / deviation, 1e-6);
}

}  // namespace
}  // namespace conclave::rl
