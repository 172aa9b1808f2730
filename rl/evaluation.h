// SPDX-License-Identifier: Apache-2.0
// How many problems a model solves: k samples of each, judged by the first reward. Figures come with the standard error
// over problems. Draws depend on the seed of the evaluation alone, so a figure is the same in every layout, during a
// run and after it from the saved folder.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "rl/episode.h"
#include "rl/sampler.h"

namespace conclave::rl {

struct Estimate {
  double mean = 0, error = 0;  // standard error of the mean
};

struct Evaluation {
  int64_t prompts = 0, samples = 0;  // samples of each prompt
  Estimate pass_at_1;                // mean share of right samples (avg@k)
  Estimate pass_at_k;                // some of `samples` is right
  Estimate majority;                 // the answer that most samples give is right
  Estimate length;                   // tokens of a response
  double truncated = 0;              // share of samples cut at the limit
};

// True if the first reward says so.
bool Solved(const Episode& episode);

// 1 - C(n - c, k) / C(n, k): the chance that some of k samples is right, from c right ones of n (arXiv 2107.03374).
double PassAtK(int64_t n, int64_t c, int64_t k);

Evaluation Summarize(std::span<const Group> groups);

// A sampler for evaluations: `samples` responses to each prompt. Collective, as the sampler.
core::RolloutConfig EvaluationRollout(const core::RolloutConfig& rollout, int64_t prompts, int64_t samples,
                                      double temperature);
inline constexpr uint64_t kEvaluationSeed = 0x5EED;

}  // namespace conclave::rl
