// SPDX-License-Identifier: Apache-2.0
#include "rl/evaluation.h"

#include <algorithm>
#include <cmath>

#include "core/base/check.h"
#include "rl/grpo_metrics.h"
#include "rl/reward/answer_rewards.h"

namespace conclave::rl {
namespace {

Estimate EstimateOf(const std::vector<double>& values) {
  const Spread spread = SpreadOf(values);
  const double count = std::max<double>(static_cast<double>(values.size()), 1);
  return {.mean = spread.mean, .error = spread.std / std::sqrt(count)};
}

bool AreSame(const AnswerRule& rule, std::string_view a, std::string_view b) {
  if (a == b) return true;
  return rule.compare(a, b).outcome == Outcome::kRight && rule.compare(b, a).outcome == Outcome::kRight;
}

// Answers that are the same are one class; of equally large ones the one that began first wins, and its first sample
// says whether it is right. Samples without an answer vote for none.
bool MajorityIsRight(const Group& group, const AnswerRule& rule) {
  struct Class {
    std::string_view answer;
    const Episode* first;
    int64_t votes;
  };
  std::vector<Class> classes;
  for (const Episode& episode : group.episodes) {
    if (episode.completion.ending == Ending::kMaxTokens) continue;
    const std::string_view answer = ExtractAnswer(episode.text, rule.fallback).value_or("");
    if (answer.empty()) continue;
    const auto known = std::find_if(classes.begin(), classes.end(),
                                    [&](const Class& votes) { return AreSame(rule, votes.answer, answer); });
    if (known == classes.end()) {
      classes.push_back({.answer = answer, .first = &episode, .votes = 1});
    } else {
      ++known->votes;
    }
  }
  const auto best = std::max_element(classes.begin(), classes.end(),
                                     [](const Class& a, const Class& b) { return a.votes < b.votes; });
  return best != classes.end() && Solved(*best->first);
}

}  // namespace

bool Solved(const Episode& episode) { return !episode.parts.empty() && episode.parts[0] > 0.5; }

double PassAtK(int64_t n, int64_t c, int64_t k) {
  if (k == 1) return static_cast<double>(c) / static_cast<double>(n);
  if (n - c < k) return 1;
  double none = 1;
  for (int64_t j = n - c + 1; j <= n; ++j) none *= 1 - static_cast<double>(k) / static_cast<double>(j);
  return 1 - none;
}

AnswerRule AnswerRuleOf(const core::RewardConfig& first_reward) {
  AnswerRule rule{.compare = CompareExactAnswer};
  if (first_reward.name == "math") rule.compare = CompareMathAnswer;
  if (first_reward.name == "numeric") rule.compare = CompareNumericAnswer;
  if (first_reward.fallback == "last_number") rule.fallback = AnswerFallback::kLastNumber;
  return rule;
}

Evaluation Summarize(std::span<const Group> groups, const AnswerRule& rule) {
  Evaluation evaluation{.prompts = static_cast<int64_t>(groups.size())};
  if (groups.empty()) return evaluation;
  const auto n = static_cast<int64_t>(groups[0].episodes.size());
  evaluation.samples = n;
  std::vector<int64_t> right;
  std::vector<double> majority, lengths;
  int64_t truncated = 0;
  for (const Group& group : groups) {
    CHECK_EQ(static_cast<int64_t>(group.episodes.size()), n);
    double length = 0;
    for (const Episode& episode : group.episodes) {
      truncated += episode.completion.ending == Ending::kMaxTokens;
      length += static_cast<double>(episode.completion.tokens.size());
    }
    right.push_back(std::count_if(group.episodes.begin(), group.episodes.end(), Solved));
    majority.push_back(MajorityIsRight(group, rule) ? 1 : 0);
    lengths.push_back(length / static_cast<double>(n));
  }
  for (int64_t k = 1;; k = std::min(2 * k, n)) {
    std::vector<double> chances;
    for (const int64_t c : right) chances.push_back(PassAtK(n, c, k));
    evaluation.pass_at.push_back({.k = k, .estimate = EstimateOf(chances)});
    if (k == n) break;
  }
  evaluation.majority = EstimateOf(majority);
  evaluation.length = EstimateOf(lengths);
  evaluation.truncated = static_cast<double>(truncated) / static_cast<double>(n * evaluation.prompts);
  return evaluation;
}

core::RolloutConfig EvaluationRollout(const core::RolloutConfig& rollout, int64_t prompts, int64_t samples,
                                      double temperature) {
  core::RolloutConfig evaluation = rollout;
  evaluation.prompts = prompts;
  evaluation.group = samples;
  evaluation.temperature = temperature;
  evaluation.ignore_eos = false;
  return evaluation;
}

}  // namespace conclave::rl
