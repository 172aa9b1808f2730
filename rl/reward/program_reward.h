// SPDX-License-Identifier: Apache-2.0
// A verifier that is another program. It is started once for each batch, reads a line {"prompt": ..., "response": ...,
// "answer": ...} for each response and writes a line {"reward": x} with perhaps a "reason", in the same order. If it
// does anything else, every response of the batch has the outcome kVerifierFailed, and says why.
#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "rl/reward/reward.h"

namespace conclave::rl {

absl::StatusOr<std::unique_ptr<Reward>> MakeProgramReward(const core::RewardConfig& config);

}  // namespace conclave::rl
