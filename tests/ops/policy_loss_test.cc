// SPDX-License-Identifier: Apache-2.0
// The policy loss by cases worked by hand, one for each side of every bound, and what must hold to the bit.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/device_arrays.h"
#include "tests/support/devices.h"

namespace conclave::core::test {
namespace {

using Ratio = PolicyRule::Ratio;
using Kl = PolicyRule::Kl;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Tokens {
  std::vector<double> log_probs, old_log_probs, reference, advantages, weights, sequences;
};

struct Outcome {
  std::vector<double> token_weights, sums;  // of one row
  double Sum(PolicySum which) const { return sums[static_cast<size_t>(which)]; }
};

Outcome LossOf(const PolicyRule& rule, const Tokens& tokens) {
  static Devices devices;
  DeviceArrays arrays(devices.Get("portable", 1));
  const auto length = static_cast<int64_t>(tokens.log_probs.size());
  const auto floats = [&](const std::vector<double>& values) { return arrays.Of(DType::kF32, {1, length}, values); };
  const PolicyLossArgs args{.rule = rule,
                            .log_probs = floats(tokens.log_probs),
                            .old_log_probs = floats(tokens.old_log_probs),
                            .reference_log_probs = tokens.reference.empty() ? Tensor() : floats(tokens.reference),
                            .advantages = floats(tokens.advantages),
                            .weights = floats(tokens.weights),
                            .sequences = arrays.Of(DType::kI32, {1, length}, tokens.sequences),
                            .token_weights = floats({kNan}),
                            .sums = arrays.Of(DType::kF64, {1, kPolicySums}, {kNan})};
  arrays.kernels().PolicyLoss(args);
  return {arrays.Values(args.token_weights), arrays.Values(args.sums)};
}

// One token with a given ratio, of weight 1.
struct OneToken {
  PolicyRule rule;
  double ratio, advantage, reference_minus_log_prob;
  double loss, token_weight;
  PolicySum counted = PolicySum::kTokens;  // the sum that it is 1 in, beside kTokens
};

TEST(PolicyLoss, IsWhatWasWorkedOutByHand) {
  const double root_e = std::sqrt(std::exp(1.0));
  const std::vector<OneToken> cases = {
      {{}, 1, 1, 0, -1, 1},
      {{}, 1.1, 2, 0, -2.2, 2.2},
      {{}, 2, 1, 0, -1.2, 0, PolicySum::kClippedHigh},
      {{.clip_high = 1.5}, 2, 1, 0, -2, 2},
      {{}, 0.5, 1, 0, -0.5, 0.5},
      {{}, 2, -1, 0, 2, -2},
      {{}, 0.5, -1, 0, 0.8, 0, PolicySum::kClippedLow},
      {{.clip_low = 0.6}, 0.5, -1, 0, 0.5, -0.5},
      {{.dual = 3}, 2, -1, 0, 2, -2},
      {{.dual = 1.5}, 2, -2, 0, 3, 0, PolicySum::kDualClipped},
      {{.dual = 1.5}, 2, 2, 0, -2.4, 0, PolicySum::kClippedHigh},
      {{.cap = 3}, 2, -2, 0, -4, -4},  // the log-probability is -1
      {{.cap = 1.5}, 2, -2, 0, -3, -3, PolicySum::kClippedHigh},
      {{.cap = 1.5}, 0.01, 1, 0, 0.01, 0.01},
      {{.kl = 2, .estimator = Kl::kK1}, 1, 0, 0.5, -1, -2},
      {{.kl = 2, .estimator = Kl::kK2}, 1, 0, 0.5, 0.25, 1},
      {{.kl = 2, .estimator = Kl::kK3}, 1, 0, 0.5, 2 * (root_e - 1.5), 2 * (root_e - 1)},
      {{.kl = 2, .estimator = Kl::kWeightedK3}, 3, 0, 0.5, 6 * (root_e - 1.5), 3},
      {{.kl = 1, .estimator = Kl::kK2}, 1, 1, -1, -0.5, 0},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const OneToken& c = cases[i];
    const Outcome outcome = LossOf(c.rule, {.log_probs = {-1},
                                            .old_log_probs = {-1 - std::log(c.ratio)},
                                            .reference = {-1 + c.reference_minus_log_prob},
                                            .advantages = {c.advantage},
                                            .weights = {1},
                                            .sequences = {0}});
    EXPECT_NEAR(outcome.Sum(PolicySum::kLoss), c.loss, 1e-6) << "case " << i;
    EXPECT_NEAR(outcome.token_weights[0], c.token_weight, 1e-6) << "case " << i;
    for (PolicySum sum : {PolicySum::kClippedLow, PolicySum::kClippedHigh, PolicySum::kDualClipped}) {
      EXPECT_EQ(outcome.Sum(sum), sum == c.counted) << "case " << i;
    }
    EXPECT_NEAR(outcome.Sum(PolicySum::kRatio), c.ratio, 1e-6) << "case " << i;
    EXPECT_NEAR(outcome.Sum(PolicySum::kKl), c.ratio - 1 - std::log(c.ratio), 1e-6) << "case " << i;
  }
}

// Ratios of 4 and 1/4 are one of 1 for the sequence; 4 and 1 are one of 2.
TEST(PolicyLoss, TakesTheGeometricMeanOfASequence) {
  const double log4 = std::log(4.0);
  const Tokens tokens{.log_probs = {-1, -1, -1, -1, -1},
                      .old_log_probs = {-1 - log4, -1 + log4, -7, -1 - log4, -1},
                      .reference = {},
                      .advantages = {1, 1, 9, 1, 1},
                      .weights = {0.5, 0.25, 9, 1, 1},
                      .sequences = {3, 3, -1, 4, 4}};
  const Outcome outcome = LossOf({.ratio = Ratio::kSequence}, tokens);
  const std::vector<double> expected = {0.375, 0.375, 0, 0, 0};  // 0.75 / 2; the other sequence is clipped
  for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(outcome.token_weights[t], expected[t], 1e-6) << t;
  EXPECT_NEAR(outcome.Sum(PolicySum::kLoss), -0.75 - 2.4, 1e-6);
  EXPECT_EQ(outcome.Sum(PolicySum::kClippedHigh), 2);
  EXPECT_EQ(outcome.Sum(PolicySum::kTokens), 4);
}

// Promise 4: the ratio of equal log-probabilities is 1, not nearly 1.
TEST(PolicyLoss, HasARatioOfExactlyOneForEqualLogProbabilities) {
  Tokens tokens;
  for (int i = 0; i < 1000; ++i) {
    tokens.log_probs.push_back(static_cast<double>(-std::exp(static_cast<float>(i % 400) / 20 - 15)));
    tokens.advantages.push_back(std::sin(i));
    tokens.weights.push_back(static_cast<double>(1.0f / 3));
    tokens.sequences.push_back(i / 7);
  }
  tokens.old_log_probs = tokens.log_probs;
  for (const PolicyRule& rule : {PolicyRule{}, PolicyRule{.cap = 5}}) {
    const Outcome outcome = LossOf(rule, tokens);
    for (size_t t = 0; t < tokens.weights.size(); ++t) {
      const double advantage = static_cast<double>(static_cast<float>(tokens.advantages[t]));
      ASSERT_EQ(outcome.token_weights[t], static_cast<double>(static_cast<float>(tokens.weights[t] * advantage)));
    }
    EXPECT_EQ(outcome.Sum(PolicySum::kRatio), 1000);
    EXPECT_EQ(outcome.Sum(PolicySum::kKl), 0);
    EXPECT_EQ(outcome.Sum(PolicySum::kDifferingTokens), 0);
    EXPECT_EQ(outcome.Sum(PolicySum::kLargestDifference), 0);
    EXPECT_EQ(outcome.Sum(PolicySum::kLargestRatio), 1);
  }
}

TEST(PolicyLoss, ReadsNothingWhereThereIsNoSequence) {
  const Tokens tokens{.log_probs = {kNan, -2, kNan},
                      .old_log_probs = {kNan, -2.5, kNan},
                      .reference = {kNan, -2, kNan},
                      .advantages = {kNan, 1, kNan},
                      .weights = {kNan, 1, kNan},
                      .sequences = {-1, 0, -1}};
  const Outcome outcome = LossOf({.kl = 0.1}, tokens);
  EXPECT_EQ(outcome.token_weights[0], 0);
  EXPECT_EQ(outcome.token_weights[2], 0);
  for (const double sum : outcome.sums) EXPECT_TRUE(std::isfinite(sum));
}

TEST(PolicyLoss, SaysThatALogProbabilityIsNotANumber) {
  const Tokens tokens{.log_probs = {-1, kNan, -1},
                      .old_log_probs = {-1, -1, -3},
                      .reference = {},
                      .advantages = {1, 1, 1},
                      .weights = {1, 1, 1},
                      .sequences = {0, 0, 0}};
  const Outcome outcome = LossOf({}, tokens);
  EXPECT_TRUE(std::isnan(outcome.Sum(PolicySum::kLoss)));
  EXPECT_TRUE(std::isnan(outcome.Sum(PolicySum::kLargestDifference)));
  EXPECT_TRUE(std::isnan(outcome.token_weights[1]));
  EXPECT_EQ(outcome.Sum(PolicySum::kDifferingTokens), 2);
}

}  // namespace
}  // namespace conclave::core::test
