// SPDX-License-Identifier: Apache-2.0
// What the config of a stage that trains on rollouts means for its trainer and for the models beside it.
#pragma once

#include <cstdint>

#include "core/config/config.h"

namespace conclave::rl {

// The config of the trainer: rows as rollouts are packed, steps and schedules in optimizer steps.
core::Config TrainerConfig(const core::Config& config);
// Steps done by the weights of the reference model once `steps` are: 0, or a multiple of kl.refresh.
int64_t ReferenceStep(const core::GrpoConfig& config, int64_t steps);
// Whether the policy's own log-probabilities are computed by themselves: of samples that are old, or drawn with a cache
// of latents.
bool NeedsLogProbs(const core::Config& config);
// Rows that one update of a step has at most.
int64_t RowsOfMinibatch(const core::Config& config);
// Optimizer steps per step.
int64_t UpdatesPerStep(const core::GrpoConfig& config);

}  // namespace conclave::rl
