// SPDX-License-Identifier: Apache-2.0
#include "launch/problem_evaluation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/chat_template.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

std::vector<core::RewardConfig> RewardsOf(const core::Config& config) {
  if (!config.reward.empty()) return config.reward;
  std::vector<core::RewardConfig> rewards(1);
  rewards[0].name = "math";
  return rewards;
}

}  // namespace

absl::Status CheckPositions(const core::Config& config, const core::ModelConfig& model) {
  const int64_t positions = config.data.max_prompt_tokens + config.rollout.max_tokens;
  if (positions <= model.max_position_embeddings) return absl::OkStatus();
  return UsageError(absl::StrFormat(
      "rollout.max_tokens: %d and data.max_prompt_tokens, %d, are more than the %d positions of the model",
      config.rollout.max_tokens, config.data.max_prompt_tokens, model.max_position_embeddings));
}

absl::Status CheckVocabulary(const data::Tokenizer& tokenizer, const core::ModelConfig& model) {
  if (tokenizer.vocab_size() <= model.vocab_size) return absl::OkStatus();
  return UsageError(absl::StrFormat("data.tokenizer: it has %d ids, more than the model's vocab_size, %d; give another",
                                    tokenizer.vocab_size(), model.vocab_size));
}

absl::StatusOr<std::unique_ptr<ProblemEvaluation>> ProblemEvaluation::Create(
    const core::Config& config, const data::Tokenizer& tokenizer, std::vector<data::Prompt> problems,
    core::Model& model, const parallel::Layout& layout, uint64_t seed) {
  const std::vector<core::RewardConfig> reward_configs = RewardsOf(config);
  ASSIGN_OR_RETURN(rl::RewardSum rewards, rl::RewardSum::Create(reward_configs));
  ASSIGN_OR_RETURN(const data::ChatTemplate chat_template,
                   data::ChatTemplate::Choose(config.data.chat_template, tokenizer));
  std::unique_ptr<ProblemEvaluation> evaluation(
      new ProblemEvaluation(std::move(problems), std::move(rewards), rl::AnswerRuleOf(reward_configs[0])));
  const auto count = static_cast<int64_t>(evaluation->problems_.size());
  ASSIGN_OR_RETURN(
      evaluation->sampler_,
      rl::Sampler::Create({.model = model, .layout = layout, .tokenizer = tokenizer, .rewards = evaluation->rewards_},
                          rl::EvaluationRollout(config.rollout, count, config.eval.samples, config.eval.temperature),
                          config.data.max_prompt_tokens, seed, std::string(chat_template.Prefill())));
  return evaluation;
}

absl::StatusOr<rl::Evaluation> ProblemEvaluation::Run() {
  ASSIGN_OR_RETURN(groups_, sampler_->Draw(0, static_cast<int64_t>(problems_.size()), 0,
                                           [this](int64_t draw) { return problems_[draw]; }));
  return rl::Summarize(groups_, rule_);
}

std::vector<std::pair<std::string, rl::Evaluation>> ProblemEvaluation::BySource() const {
  std::vector<std::pair<std::string, std::vector<rl::Group>>> sources;
  for (const rl::Group& group : groups_) {
    const std::string& name = problems_[group.draw].source;
    auto known = std::find_if(sources.begin(), sources.end(), [&](const auto& source) { return source.first == name; });
    if (known == sources.end()) known = sources.insert(sources.end(), {name, {}});
    known->second.push_back(group);
  }
  std::vector<std::pair<std::string, rl::Evaluation>> summaries;
  if (sources.size() < 2) return summaries;
  for (const auto& [name, groups] : sources) summaries.emplace_back(name, rl::Summarize(groups, rule_));
  return summaries;
}

}  // namespace conclave::launch
