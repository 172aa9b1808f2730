// SPDX-License-Identifier: Apache-2.0
#include "rl/advantage.h"

#include <cmath>
#include <vector>

#include "core/base/check.h"
#include "core/base/exact_math.h"

namespace conclave::rl {
namespace {

template <class Visit>
void ForEachCounted(std::span<Group> groups, const Visit& visit) {
  for (Group& group : groups) {
    for (Episode& episode : group.episodes) {
      if (group.kept && episode.counted) visit(episode);
    }
  }
}

struct Moments {
  int64_t count = 0;
  double sum = 0;
  double Mean() const { return count > 0 ? sum / static_cast<double>(count) : 0; }
};

double Worth(const Episode& episode) { return episode.reward - episode.kl_penalty; }

Moments RewardsOf(const Group& group) {
  Moments moments;
  for (const Episode& episode : group.episodes) {
    if (!episode.counted) continue;
    ++moments.count;
    moments.sum += Worth(episode);
  }
  return moments;
}

// Root of the mean square; `missing`: 1 for the estimate from a sample.
double Deviation(double squares, int64_t count, int64_t missing) {
  return count > missing ? std::sqrt(squares / static_cast<double>(count - missing)) : 0;
}

double GroupDeviation(const Group& group, const std::string& kind) {
  const Moments moments = RewardsOf(group);
  double squares = 0;
  for (const Episode& episode : group.episodes) {
    const double d = Worth(episode) - moments.Mean();
    if (episode.counted) squares += d * d;
  }
  return Deviation(squares, moments.count, kind == "sample" ? 1 : 0);
}

double Baseline(const std::string& kind, const Moments& group, double batch_mean, double reward) {
  if (kind == "group") return group.Mean();
  if (kind == "leave_one_out") {
    return group.count > 1 ? (group.sum - reward) / static_cast<double>(group.count - 1) : reward;
  }
  return kind == "batch" ? batch_mean : 0;
}

}  // namespace

bool HasSpread(const Group& group) {
  const Episode* first = nullptr;
  for (const Episode& episode : group.episodes) {
    if (!episode.counted) continue;
    if (first == nullptr) first = &episode;
    if (episode.reward != first->reward) return true;
  }
  return false;
}

void ComputeAdvantages(const core::AdvantageConfig& config, std::span<Group> groups) {
  Moments batch;
  ForEachCounted(groups, [&](const Episode& episode) {
    ++batch.count;
    batch.sum += Worth(episode);
  });
  for (Group& group : groups) {
    const Moments moments = RewardsOf(group);
    const bool by_group = config.std == "sample" || config.std == "population";
    const double deviation = by_group ? GroupDeviation(group, config.std) + config.eps : 1;
    for (Episode& episode : group.episodes) {
      episode.advantage = 0;
      if (!group.kept || !episode.counted) continue;
      episode.advantage =
          (Worth(episode) - Baseline(config.baseline, moments, batch.Mean(), Worth(episode))) / deviation;
    }
  }
  if (config.std != "batch") return;
  Moments left;
  ForEachCounted(groups, [&](const Episode& episode) {
    ++left.count;
    left.sum += episode.advantage;
  });
  double spread = 0;
  ForEachCounted(groups, [&](const Episode& episode) {
    const double d = episode.advantage - left.Mean();
    spread += d * d;
  });
  const double deviation = Deviation(spread, left.count, 1) + config.eps;
  ForEachCounted(groups, [&](Episode& episode) { episode.advantage /= deviation; });
}

double KlEstimate(const std::string& estimator, double log_prob, double reference_log_prob) {
  const double d = reference_log_prob - log_prob;
  if (estimator == "k1") return -d;
  if (estimator == "k2") return d * d / 2;
  return core::ExactExp(d) - d - 1;
}

void ComputeKlPenalties(const core::KlConfig& kl, std::span<Group> groups) {
  ForEachCounted(groups, [&](Episode& episode) {
    const std::vector<float>& now =
        episode.old_log_probs.empty() ? episode.completion.log_probs : episode.old_log_probs;
    CHECK_EQ(episode.reference_log_probs.size(), now.size());
    double sum = 0;
    for (size_t t = 0; t < now.size(); ++t) sum += KlEstimate(kl.estimator, now[t], episode.reference_log_probs[t]);
    episode.kl_penalty = kl.coefficient * sum;
  });
}

void ComputeTokenAdvantages(const core::KlConfig& kl, double eps, std::span<Group> groups) {
  Moments all;
  std::vector<std::vector<double>> returns;
  ForEachCounted(groups, [&](Episode& episode) {
    const std::vector<float>& now =
        episode.old_log_probs.empty() ? episode.completion.log_probs : episode.old_log_probs;
    CHECK_EQ(episode.reference_log_probs.size(), now.size());
    std::vector<double>& values = returns.emplace_back(now.size());
    double rest = episode.reward;
    for (size_t t = now.size(); t-- > 0;) {
      rest -= kl.coefficient * KlEstimate(kl.estimator, now[t], episode.reference_log_probs[t]);
      values[t] = rest;
      ++all.count;
      all.sum += rest;
    }
  });
  double squares = 0;
  for (const std::vector<double>& values : returns) {
    for (const double value : values) squares += (value - all.Mean()) * (value - all.Mean());
  }
  const double deviation = Deviation(squares, all.count, 1) + eps;
  size_t next = 0;
  ForEachCounted(groups, [&](Episode& episode) {
    episode.token_advantages.clear();
    for (const double value : returns[next++]) {
      episode.token_advantages.push_back(static_cast<float>((value - all.Mean()) / deviation));
    }
  });
}

}  // namespace conclave::rl
