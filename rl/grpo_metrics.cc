// SPDX-License-Identifier: Apache-2.0
#include "rl/grpo_metrics.h"

#include <algorithm>
#include <cmath>

#include "rl/advantage.h"
#include "rl/evaluation.h"

namespace conclave::rl {
namespace {

// Means over the updates so far, weighed by tokens; largest values are those of all.
void AddPolicy(const optim::PolicyMetrics& now, optim::PolicyMetrics& mean) {
  const double before = static_cast<double>(mean.tokens), tokens = static_cast<double>(now.tokens);
  const double share = tokens > 0 ? tokens / (before + tokens) : 0;
  for (double optim::PolicyMetrics::*field :
       {&optim::PolicyMetrics::loss, &optim::PolicyMetrics::clipped_low, &optim::PolicyMetrics::clipped_high,
        &optim::PolicyMetrics::dual_clipped, &optim::PolicyMetrics::ratio, &optim::PolicyMetrics::kl,
        &optim::PolicyMetrics::reference_kl, &optim::PolicyMetrics::difference}) {
    mean.*field += share * (now.*field - mean.*field);
  }
  mean.largest_ratio = std::max(mean.largest_ratio, now.largest_ratio);
  mean.largest_difference = std::max(mean.largest_difference, now.largest_difference);
  mean.differing_tokens += now.differing_tokens;
  mean.tokens += now.tokens;
}

}  // namespace

Spread SpreadOf(std::span<const double> values) {
  if (values.empty()) return {};
  Spread spread{.mean = 0, .std = 0, .min = values[0], .max = values[0]};
  for (const double value : values) {
    spread.mean += value;
    spread.min = std::min(spread.min, value);
    spread.max = std::max(spread.max, value);
  }
  const auto count = static_cast<double>(values.size());
  spread.mean /= count;
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (values.size() > 1) spread.std = std::sqrt(squares / (count - 1));
  return spread;
}

void AddUpdate(const optim::StepMetrics& now, GrpoMetrics& metrics) {
  const optim::StepMetrics before = metrics.update;
  metrics.update = now;
  if (metrics.updates++ == 0) return;
  const auto mean = [&](double a, double b) { return a + (b - a) / static_cast<double>(metrics.updates); };
  metrics.update.grad_norm = mean(before.grad_norm, now.grad_norm);
  metrics.update.balance_loss = mean(before.balance_loss, now.balance_loss);
  metrics.update.load_imbalance = std::max(before.load_imbalance, now.load_imbalance);
  metrics.update.finite = before.finite && now.finite;
  metrics.update.stop_reason = std::max(before.stop_reason, now.stop_reason);
  metrics.update.tokens += before.tokens;
  metrics.update.replayed += before.replayed;
  metrics.update.flips += before.flips;
  if (!before.policy || !now.policy) return;
  metrics.update.policy = before.policy;
  AddPolicy(*now.policy, *metrics.update.policy);
}

void DescribeRollout(std::span<const Group> groups, int64_t step, size_t rewards_per_sample, GrpoMetrics& metrics) {
  std::vector<double> rewards, lengths, advantages;
  metrics.parts.assign(rewards_per_sample, 0.0);
  int64_t solved_all = 0, solved_none = 0, no_spread = 0, truncated = 0, counted = 0, age = 0;
  for (const Group& group : groups) {
    int64_t solved = 0;
    for (const Episode& episode : group.episodes) {
      rewards.push_back(episode.reward);
      lengths.push_back(static_cast<double>(episode.completion.tokens.size()));
      metrics.tokens += static_cast<int64_t>(episode.completion.tokens.size());
      if (group.kept && episode.counted) advantages.push_back(episode.advantage);
      for (size_t i = 0; i < metrics.parts.size(); ++i) metrics.parts[i] += episode.parts[i];
      solved += Solved(episode);
      truncated += episode.completion.ending == Ending::kMaxTokens;
      counted += group.kept && episode.counted;
      age += step - 1 - episode.version;
      metrics.verifier_failed += std::find(episode.failed.begin(), episode.failed.end(), true) != episode.failed.end();
      metrics.entropy += episode.completion.entropy;
      metrics.prompt_length += static_cast<double>(group.prompt.size());
      ++metrics.samples;
    }
    ++metrics.groups;
    solved_all += solved == static_cast<int64_t>(group.episodes.size());
    solved_none += solved == 0;
    no_spread += !HasSpread(group);
  }
  const auto share = [](int64_t part, int64_t all) {
    return all > 0 ? static_cast<double>(part) / static_cast<double>(all) : 0.0;
  };
  for (double& part : metrics.parts) part /= std::max<double>(static_cast<double>(metrics.samples), 1);
  metrics.entropy /= std::max<double>(static_cast<double>(metrics.tokens), 1);
  metrics.prompt_length /= std::max<double>(static_cast<double>(metrics.samples), 1);
  metrics.reward = SpreadOf(rewards);
  metrics.length = SpreadOf(lengths);
  metrics.advantage = SpreadOf(advantages);
  metrics.solved_all = share(solved_all, metrics.groups);
  metrics.solved_none = share(solved_none, metrics.groups);
  metrics.without_spread = share(no_spread, metrics.groups);
  metrics.truncated = share(truncated, metrics.samples);
  metrics.counted = share(counted, metrics.samples);
  metrics.age = share(age, metrics.samples);
  if (!groups.empty()) metrics.example = &groups[0].episodes[0];
}

}  // namespace conclave::rl
