// SPDX-License-Identifier: Apache-2.0
// Steps on rollouts, of stage grpo and of a student that a teacher judges: what rl/grpo.h needs of a run, made and
// handed over.
#pragma once

#include <memory>
#include <optional>

#include "data/prompts.h"
#include "launch/problem_evaluation.h"
#include "launch/stage_steps.h"
#include "optim/log_probs.h"
#include "rl/grpo.h"
#include "rl/rollout_store.h"

namespace conclave::launch {

class GrpoSteps final : public StageSteps {
 public:
  static absl::StatusOr<std::unique_ptr<GrpoSteps>> Create(const core::Config& config, const RunFolder& folder,
                                                           RunParts& parts, parallel::Job& job);

  absl::StatusOr<StepReport> Step(RunState& state) override;
  absl::StatusOr<std::optional<Validation>> Validate() override;
  bool NeedsCheckpoint(int64_t step) const override;
  absl::Status FollowModel() override;

 private:
  GrpoSteps(const core::Config& config, const RunFolder& folder, RunParts& parts, parallel::Job& job,
            rl::RewardSum rewards)
      : config_(config), folder_(folder), parts_(parts), job_(job), rewards_(std::move(rewards)) {}
  absl::Status CreateReference();
  // Gives the reference model the weights it has once `steps` are done.
  absl::Status RefreshReference(int64_t steps);
  int64_t MostRows() const { return parts_.trainer_config.batch.sequences; }

  const core::Config& config_;
  const RunFolder& folder_;
  RunParts& parts_;
  parallel::Job& job_;
  const rl::RewardSum rewards_;
  std::optional<rl::RolloutStore> store_;  // of rank 0
  std::unique_ptr<core::Model> reference_model_;
  int64_t reference_step_ = 0;
  std::unique_ptr<optim::LogProbs> log_probs_, reference_;
  std::unique_ptr<rl::Sampler> sampler_;
  std::unique_ptr<rl::Grpo> grpo_;
  std::unique_ptr<ProblemEvaluation> evaluation_;
};

}  // namespace conclave::launch
