// SPDX-License-Identifier: Apache-2.0
// Held-out problems that a model is asked to solve: during a run, and by `conclave eval` from its folder. Both give the
// same numbers.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/model.h"
#include "data/prompts.h"
#include "parallel/layout.h"
#include "rl/evaluation.h"
#include "rl/reward/reward_sum.h"
#include "rl/sampler.h"

namespace conclave::launch {

// A usage error if prompts and responses of the config do not fit the positions of the model.
absl::Status CheckPositions(const core::Config& config, const core::ModelConfig& model);

// A usage error if the tokenizer has ids that the model does not.
absl::Status CheckVocabulary(const data::Tokenizer& tokenizer, const core::ModelConfig& model);

class ProblemEvaluation {
 public:
  // Collective. What is referred to outlives it. Rewards: those of the config, `math` if it has none. A run keeps to
  // one seed, so that its figures differ by the weights alone.
  static absl::StatusOr<std::unique_ptr<ProblemEvaluation>> Create(const core::Config& config,
                                                                   const data::Tokenizer& tokenizer,
                                                                   std::vector<data::Prompt> problems,
                                                                   core::Model& model, const parallel::Layout& layout,
                                                                   uint64_t seed = rl::kEvaluationSeed);

  const std::vector<data::Prompt>& problems() const { return problems_; }
  // Collective, the same on all ranks.
  absl::StatusOr<rl::Evaluation> Run();
  // Of the last run.
  const std::vector<rl::Group>& groups() const { return groups_; }
  // The same by source of problems, in their order; empty where there is one alone.
  std::vector<std::pair<std::string, rl::Evaluation>> BySource() const;
  std::vector<std::string> RewardNames() const { return sampler_->RewardNames(); }

 private:
  ProblemEvaluation(std::vector<data::Prompt> problems, rl::RewardSum rewards, rl::AnswerRule rule)
      : problems_(std::move(problems)), rewards_(std::move(rewards)), rule_(rule) {}

  const std::vector<data::Prompt> problems_;
  const rl::RewardSum rewards_;
  const rl::AnswerRule rule_;
  std::unique_ptr<rl::Sampler> sampler_;
  std::vector<rl::Group> groups_;
};

}  // namespace conclave::launch
