// SPDX-License-Identifier: Apache-2.0
// What the stages of a recipe do differently: a step, and what is measured beside it. The loop around it (train_loop.h)
// is one for all: metrics, checkpoints, signals, resume.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/run_checkpoints.h"
#include "launch/run_parts.h"
#include "launch/run_report.h"
#include "parallel/job.h"

namespace conclave::launch {

// Everything here is collective.
class StageSteps {
 public:
  virtual ~StageSteps() = default;

  // Step state.step + 1. On success `state` is that behind it: what was drawn counts as drawn.
  virtual absl::StatusOr<StepReport> Step(RunState& state) = 0;
  // On held-out data, if there is some.
  virtual absl::StatusOr<std::optional<Validation>> Validate() = 0;
  // Whether steps to come read the weights as they are behind this one.
  virtual bool NeedsCheckpoint(int64_t) const { return false; }
  // The model of `parts` was made anew.
  virtual absl::Status FollowModel() { return absl::OkStatus(); }
};

// Of the stage that the config names.
absl::StatusOr<std::unique_ptr<StageSteps>> MakeStageSteps(const core::Config& config, const RunFolder& folder,
                                                           RunParts& parts, parallel::Job& job);

}  // namespace conclave::launch
