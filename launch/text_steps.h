// SPDX-License-Identifier: Apache-2.0
// Steps on rows of text: pretraining, and fine-tuning on answers, whose rows have labels on these alone, or learning
// from a teacher at their places.
#pragma once

#include <memory>

#include "launch/problem_evaluation.h"
#include "launch/stage_steps.h"

namespace conclave::launch {

class TextSteps final : public StageSteps {
 public:
  static absl::StatusOr<std::unique_ptr<TextSteps>> Create(const core::Config& config, RunParts& parts);

  absl::StatusOr<StepReport> Step(RunState& state) override;
  absl::StatusOr<std::optional<Validation>> Validate() override;
  absl::Status FollowModel() override;

 private:
  TextSteps(const core::Config& config, RunParts& parts) : config_(config), parts_(parts) {}
  void MeasureLoss(Validation& validation);

  const core::Config& config_;
  RunParts& parts_;
  std::unique_ptr<ProblemEvaluation> evaluation_;  // null without problems
};

}  // namespace conclave::launch
