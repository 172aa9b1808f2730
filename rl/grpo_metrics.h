// SPDX-License-Identifier: Apache-2.0
// What a step of reinforcement learning tells of itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "optim/trainer.h"
#include "rl/episode.h"

namespace conclave::rl {

// Mean, deviation (n - 1) and extremes of some numbers.
struct Spread {
  double mean = 0, std = 0, min = 0, max = 0;
};
Spread SpreadOf(std::span<const double> values);

struct GrpoMetrics {
  int64_t step = 0, updates = 0;
  optim::StepMetrics update;  // means over the optimizer steps of the step
  Spread reward, length, advantage;
  std::vector<double> parts;                    // mean of each reward before its weight
  int64_t groups = 0, samples = 0, tokens = 0;  // drawn
  double solved_all = 0, solved_none = 0;       // share of groups in which every (no) sample has the best first reward
  double without_spread = 0;                    // share of groups whose rewards are all alike
  double truncated = 0;                         // share of samples cut at the limit
  double counted = 0;                           // share of samples in the loss
  int64_t rounds = 1;                           // of dynamic sampling
  int64_t verifier_failed = 0;                  // samples
  double prompt_length = 0;
  double entropy = 0;                        // of the distribution that a token was drawn from, mean over tokens, nats
  int64_t trained_tokens = 0;                // of prompts and responses, over all updates
  double padding = 0;                        // share of the rows of the updates
  std::optional<double> sampler_difference;  // largest of |log-probability when drawn - in the update|; none off-policy
  std::optional<double> cache_difference;    // the same where the cache of latents makes it; with that alone
  double age = 0;                            // steps between drawing and update, mean
  std::optional<double> router_flips;  // of (token, MoE block) in later updates: share that replay kept from changing
  bool kept_rollout = false;           // read back, not drawn
  double generate_seconds = 0, score_seconds = 0, update_seconds = 0;
  const Episode* example = nullptr;  // until the next step
};

// Adds an optimizer step: means of what is a share or a size, sums of what is counted, extremes of the rest.
void AddUpdate(const optim::StepMetrics& now, GrpoMetrics& metrics);
// Fills in what the samples of the step show.
void DescribeRollout(std::span<const Group> groups, int64_t step, size_t rewards_per_sample, GrpoMetrics& metrics);

}  // namespace conclave::rl
