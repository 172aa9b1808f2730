// SPDX-License-Identifier: Apache-2.0
// From rewards, less their kl_penalty, to advantages: A = (r - baseline) / (deviation + eps), in f64 and in the order
// of draws. Episodes that do not count have advantage 0 and are not in any mean.
//   baseline  group mean (GRPO, 2402.03300) | mean of the others (RLOO, 2402.14740) | mean of the batch | 0
//   std       of the group, over n - 1 or n | of the batch, of what the baseline left (REINFORCE++, 2501.03262) | 1
#pragma once

#include <span>

#include "core/config/rl_config.h"
#include "rl/episode.h"

namespace conclave::rl {

// True if counted rewards of the group differ: only then does it say what is better.
bool HasSpread(const Group& group);

// Sets Episode::advantage of all groups that are kept.
void ComputeAdvantages(const core::AdvantageConfig& config, std::span<Group> groups);

// KL in the reward, with Episode::reference_log_probs and old_log_probs set. For a batch baseline token by token: each
// token is worth what follows it, r - kl (sum of estimates from there on), whitened over all tokens; then
// token_advantages are set. Otherwise the sum over the response is its kl_penalty, and comes before advantages.
void ComputeKlPenalties(const core::KlConfig& kl, std::span<Group> groups);
void ComputeTokenAdvantages(const core::KlConfig& kl, double eps, std::span<Group> groups);

// An estimate of the divergence of a policy from the reference at one token (Schulman): k1 = -d, k2 = d^2 / 2,
// k3 = e^d - d - 1 with d = reference - policy.
double KlEstimate(const std::string& estimator, double log_prob, double reference_log_prob);

}  // namespace conclave::rl
