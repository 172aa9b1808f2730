// SPDX-License-Identifier: Apache-2.0
#include "launch/stage_steps.h"

#include "launch/grpo_steps.h"
#include "launch/text_steps.h"

namespace conclave::launch {

absl::StatusOr<std::unique_ptr<StageSteps>> MakeStageSteps(const core::Config& config, const RunFolder& folder,
                                                           RunParts& parts, parallel::Job& job) {
  if (config.TrainsOnRollouts()) return GrpoSteps::Create(config, folder, parts, job);
  return TextSteps::Create(config, parts);
}

}  // namespace conclave::launch
