// SPDX-License-Identifier: Apache-2.0
#include "rl/evaluation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "rl/grpo.h"
#include "rl/reward/answer_extraction.h"

namespace conclave::rl {
namespace {

Estimate EstimateOf(const std::vector<double>& values) {
  const Spread spread = SpreadOf(values);
  const double count = std::max<double>(static_cast<double>(values.size()), 1);
  return {.mean = spread.mean, .error = spread.std / std::sqrt(count)};
}

// Of the answers, the one that most samples give; of equally frequent ones the first. Samples without an answer vote
// for none.
bool MajorityIsRight(const Group& group) {
  std::vector<std::string> answers;
  for (const Episode& episode : group.episodes) {
    const bool finished = episode.completion.ending != Ending::kMaxTokens;
    answers.emplace_back(finished ? ExtractAnswer(episode.text, AnswerFallback::kNone).value_or("")
                                  : std::string_view());
  }
  size_t best = answers.size();
  int64_t votes = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const int64_t count = std::count(answers.begin(), answers.end(), answers[i]);
    if (answers[i].empty() || count <= votes) continue;
    best = i;
    votes = count;
  }
  return best < answers.size() && Solved(group.episodes[best]);
}

}  // namespace

bool Solved(const Episode& episode) { return !episode.parts.empty() && episode.parts[0] > 0.5; }

double PassAtK(int64_t n, int64_t c, int64_t k) {
  if (n - c < k) return 1;
  double none = 1;
  for (int64_t j = n - c + 1; j <= n; ++j) none *= 1 - static_cast<double>(k) / static_cast<double>(j);
  return 1 - none;
}

Evaluation Summarize(std::span<const Group> groups) {
  Evaluation evaluation{.prompts = static_cast<int64_t>(groups.size())};
  std::vector<double> right, some, majority, lengths;
  int64_t truncated = 0, samples = 0;
  for (const Group& group : groups) {
    const auto n = static_cast<int64_t>(group.episodes.size());
    int64_t solved = 0;
    double length = 0;
    for (const Episode& episode : group.episodes) {
      solved += Solved(episode);
      truncated += episode.completion.ending == Ending::kMaxTokens;
      length += static_cast<double>(episode.completion.tokens.size());
      ++samples;
    }
    evaluation.samples = n;
    right.push_back(static_cast<double>(solved) / static_cast<double>(n));
    some.push_back(solved > 0 ? 1 : 0);
    majority.push_back(MajorityIsRight(group) ? 1 : 0);
    lengths.push_back(length / static_cast<double>(n));
  }
  evaluation.pass_at_1 = EstimateOf(right);
  evaluation.pass_at_k = EstimateOf(some);
  evaluation.majority = EstimateOf(majority);
  evaluation.length = EstimateOf(lengths);
  evaluation.truncated = samples > 0 ? static_cast<double>(truncated) / static_cast<double>(samples) : 0;
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
