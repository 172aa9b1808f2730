// SPDX-License-Identifier: Apache-2.0
#include "launch/grpo_steps.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/chat_template.h"
#include "launch/ranks.h"
#include "launch/rollout_key.h"
#include "rl/grpo_config.h"

namespace conclave::launch {

absl::StatusOr<std::unique_ptr<GrpoSteps>> GrpoSteps::Create(const core::Config& config, const RunFolder& folder,
                                                             RunParts& parts, parallel::Job& job) {
  ASSIGN_OR_RETURN(rl::RewardSum rewards, rl::RewardSum::Create(config.reward));
  std::unique_ptr<GrpoSteps> steps(new GrpoSteps(config, folder, parts, job, std::move(rewards)));
  if (IsFirst(job)) steps->store_.emplace(folder.RolloutsPath(), RolloutKey(config, parts));
  RETURN_IF_ERROR(steps->FollowModel());
  return steps;
}

// At first the model that the run began with, whatever step it is at now.
absl::Status GrpoSteps::CreateReference() {
  if (config_.grpo.kl.coefficient == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(reference_model_, CreateFrozenModel(config_, job_, parts_));
  reference_step_ = 0;
  ASSIGN_OR_RETURN(reference_, optim::LogProbs::Create(*reference_model_, *parts_.layout, MostRows()));
  return absl::OkStatus();
}

absl::Status GrpoSteps::RefreshReference(int64_t steps) {
  const int64_t wanted = rl::ReferenceStep(config_.grpo, steps);
  if (!reference_ || wanted == reference_step_) return absl::OkStatus();
  const std::string path = absl::StrFormat("%s/step_%d", folder_.CheckpointsPath(), wanted);
  RETURN_IF_ERROR(LoadWeightsInto(path, job_, *reference_model_));
  reference_step_ = wanted;
  return absl::OkStatus();
}

bool GrpoSteps::NeedsCheckpoint(int64_t step) const {
  return config_.grpo.kl.coefficient > 0 && step > 0 && rl::ReferenceStep(config_.grpo, step) == step;
}

absl::Status GrpoSteps::FollowModel() {
  grpo_.reset();
  reference_.reset();  // its experts lie where the layout says, too
  ASSIGN_OR_RETURN(const data::ChatTemplate chat_template,
                   data::ChatTemplate::Choose(config_.data.chat_template, *parts_.tokenizer));
  ASSIGN_OR_RETURN(
      sampler_,
      rl::Sampler::Create(
          {.model = *parts_.model, .layout = *parts_.layout, .tokenizer = *parts_.tokenizer, .rewards = rewards_},
          config_.rollout, config_.data.max_prompt_tokens, static_cast<uint64_t>(config_.train.seed),
          std::string(chat_template.Prefill())));
  if (rl::NeedsLogProbs(config_)) {
    ASSIGN_OR_RETURN(log_probs_, optim::LogProbs::Create(*parts_.model, *parts_.layout, MostRows()));
  }
  RETURN_IF_ERROR(CreateReference());
  if (parts_.teacher) LearnFrom(config_, *parts_.teacher, *parts_.trainer);
  grpo_ = std::make_unique<rl::Grpo>(
      rl::Grpo::Parts{.trainer = *parts_.trainer,
                      .layout = *parts_.layout,
                      .sampler = *sampler_,
                      .log_probs = log_probs_.get(),
                      .reference = reference_.get(),
                      .teacher = parts_.teacher ? parts_.teacher->states.get() : nullptr,
                      .store = store_ ? &*store_ : nullptr,
                      .prompt_of = [this](int64_t draw) { return parts_.prompts->At(draw); }},
      config_);
  if (parts_.problems.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(evaluation_, ProblemEvaluation::Create(config_, *parts_.tokenizer, parts_.problems, *parts_.model,
                                                          *parts_.layout));
  return absl::OkStatus();
}

absl::StatusOr<StepReport> GrpoSteps::Step(RunState& state) {
  const auto start = std::chrono::steady_clock::now();
  StepReport report;
  RETURN_IF_ERROR(RefreshReference(state.step));
  const int64_t first_draw = state.data_position;
  int64_t next_draw = first_draw;
  ASSIGN_OR_RETURN(report.rollout, grpo_->Step(state.step + 1, next_draw));
  report.metrics = report.rollout->update;
  report.metrics.step = ++state.step;
  state.data_position = next_draw;
  std::vector<int64_t> draws;
  for (int64_t draw = first_draw; draw < next_draw; ++draw) draws.push_back(draw);
  state.sample_chain = ExtendSampleChain(state.sample_chain, draws);
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

absl::StatusOr<std::optional<Validation>> GrpoSteps::Validate() {
  if (!evaluation_) return std::nullopt;
  ASSIGN_OR_RETURN(rl::Evaluation solved, evaluation_->Run());
  return Validation{.solved = solved, .samples = FirstSamples(evaluation_->problems(), evaluation_->groups())};
}

}  // namespace conclave::launch
