// SPDX-License-Identifier: Apache-2.0
// Figures of evaluations against what they mean: counted over all choices of samples, or worked by hand.
#include "rl/evaluation.h"

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "rl/reward/answer_rewards.h"

namespace conclave::rl {
namespace {

AnswerRule Rule(const std::string& name, const std::string& fallback = "none") {
  core::RewardConfig reward;
  reward.name = name;
  reward.fallback = fallback;
  return AnswerRuleOf(reward);
}

// Responses with these answers, of which those that mean `right` are solved; "" is a response without one.
Group GroupOf(const std::vector<std::string>& answers, const std::string& right) {
  Group group;
  for (const std::string& answer : answers) {
    Episode& episode = group.episodes.emplace_back();
    episode.completion.ending = Ending::kEndToken;
    episode.completion.tokens.assign(answer.size() + 1, 0);
    episode.text = answer.empty() ? "none" : "<answer>" + answer + "</answer>";
    episode.parts = {answer.empty() ? 0 : CompareMathAnswer(right, answer).value};
  }
  return group;
}

double Majority(const std::vector<std::string>& answers, const std::string& right, const std::string& reward = "math") {
  const std::vector<Group> groups = {GroupOf(answers, right)};
  return Summarize(groups, Rule(reward)).majority.mean;
}

TEST(PassAtK, IsTheShareOfAllChoicesWithARightSample) {
  for (int n = 1; n <= 10; ++n) {
    for (int c = 0; c <= n; ++c) {
      for (int k = 1; k <= n; ++k) {
        int choices = 0, with_right = 0;
        for (unsigned choice = 0; choice < 1u << n; ++choice) {
          if (std::popcount(choice) != k) continue;
          ++choices;
          with_right += (choice & ((1u << c) - 1)) != 0;  // the first c samples are right
        }
        EXPECT_NEAR(PassAtK(n, c, k), static_cast<double>(with_right) / choices, 1e-12) << n << " " << c << " " << k;
      }
    }
  }
}

TEST(Summarize, GivesPassAtPowersOfTwoAndAtAllSamples) {
  const std::vector<Group> groups = {GroupOf({"1", "2", "1", "1", "5", "6"}, "1"),
                                     GroupOf({"1", "2", "3", "", "5", "6"}, "7")};
  const Evaluation evaluation = Summarize(groups, Rule("math"));
  ASSERT_EQ(evaluation.pass_at.size(), 4u);
  const int64_t ks[] = {1, 2, 4, 6};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(evaluation.pass_at[i].k, ks[i]);
    EXPECT_DOUBLE_EQ(evaluation.pass_at[i].estimate.mean, PassAtK(6, 3, ks[i]) / 2);
  }
  EXPECT_EQ(evaluation.pass_at[0].estimate.mean, 0.25);
  EXPECT_EQ(evaluation.prompts, 2);
  EXPECT_EQ(evaluation.samples, 6);
  EXPECT_EQ(Summarize(std::vector<Group>{GroupOf({"1"}, "1")}, Rule("math")).pass_at.size(), 1u);
}

// Shares .5, 0, 1: deviation over n - 1 is .5, of a mean over three problems .5 / sqrt(3).
TEST(Summarize, ErrorsAreThoseOfAMeanOverProblems) {
  const std::vector<Group> groups = {GroupOf({"1", "2"}, "1"), GroupOf({"3", "2"}, "1"), GroupOf({"1", "1"}, "1")};
  const Evaluation evaluation = Summarize(groups, Rule("math"));
  EXPECT_DOUBLE_EQ(evaluation.pass_at[0].estimate.mean, 0.5);
  EXPECT_DOUBLE_EQ(evaluation.pass_at[0].estimate.error, 0.5 / std::sqrt(3.0));
}

TEST(Summarize, AnswersThatMeanTheSameAreOneVote) {
  EXPECT_EQ(Majority({"3", "1/2", "0.5", "3", "\\frac{1}{2}"}, "0.5"), 1);
  EXPECT_EQ(Majority({"3", "1/2", "0.5", "3", "\\frac{1}{2}"}, "3"), 0);
  // Another reward compares texts: three of these are three answers.
  EXPECT_EQ(Majority({"3", "1/2", "0.5", "3", "\\frac{1}{2}"}, "3", "exact"), 1);
  EXPECT_EQ(Majority({"3", "0.5", "0.50", "3", "+.5"}, "0.5", "numeric"), 1);
}

TEST(Summarize, TiesGoToTheFirstAndSilenceVotesForNothing) {
  EXPECT_EQ(Majority({"2", "1", "1", "2"}, "2"), 1);
  EXPECT_EQ(Majority({"2", "1", "1", "2"}, "1"), 0);
  EXPECT_EQ(Majority({"", "", "", "1"}, "1"), 1);
  EXPECT_EQ(Majority({"", ""}, "1"), 0);
  // A response that was cut off has said nothing.
  std::vector<Group> groups = {GroupOf({"2", "2", "1"}, "1")};
  groups[0].episodes[0].completion.ending = groups[0].episodes[1].completion.ending = Ending::kMaxTokens;
  EXPECT_EQ(Summarize(groups, Rule("math")).majority.mean, 1);
  EXPECT_DOUBLE_EQ(Summarize(groups, Rule("math")).truncated, 2.0 / 3);
}

}  // namespace
}  // namespace conclave::rl
