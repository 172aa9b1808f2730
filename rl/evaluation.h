// SPDX-License-Identifier: Apache-2.0
// How many problems a model solves: n samples of each, judged by the first reward. Figures come with the standard error
// over problems. Draws depend on the seed of the evaluation alone, so a figure is the same in every layout, during a
// run and after it from the saved folder.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/config/rl_config.h"
#include "rl/episode.h"
#include "rl/reward/answer_extraction.h"
#include "rl/reward/reward.h"

namespace conclave::rl {

struct Estimate {
  double mean = 0, error = 0;  // standard error of the mean
};

struct PassAt {
  int64_t k = 1;
  Estimate estimate = {};  // the chance that some of k samples is right
};

struct Evaluation {
  int64_t prompts = 0, samples = 0;  // samples of each prompt
  std::vector<PassAt> pass_at;       // k = 1 (the mean share of right samples), 2, 4, ... and `samples`
  Estimate majority;                 // the answer that most samples give is right
  Estimate length;                   // tokens of a response
  double truncated = 0;              // share of samples cut at the limit
};

// Which answers are one vote: those that the first reward takes for each other, both ways round.
struct AnswerRule {
  AnswerFallback fallback = AnswerFallback::kNone;
  Score (*compare)(std::string_view expected, std::string_view answer) = nullptr;
};
// Rewards without an equivalence of their own: the same text.
AnswerRule AnswerRuleOf(const core::RewardConfig& first_reward);

// True if the first reward says so.
bool Solved(const Episode& episode);

// 1 - C(n - c, k) / C(n, k): the chance that some of k samples is right, from c right ones of n (arXiv 2107.03374).
double PassAtK(int64_t n, int64_t c, int64_t k);

// Groups of equally many samples.
Evaluation Summarize(std::span<const Group> groups, const AnswerRule& rule);

// How an evaluation draws: as rollouts do, but for these.
core::RolloutConfig EvaluationRollout(const core::RolloutConfig& rollout, int64_t prompts, int64_t samples,
                                      double temperature);
inline constexpr uint64_t kEvaluationSeed = 0x5EED;

}  // namespace conclave::rl
