// SPDX-License-Identifier: Apache-2.0
// What the rollouts that a run keeps depend on, as the key of rl/rollout_store.h.
#pragma once

#include <string>

#include "core/config/config.h"
#include "launch/run_parts.h"

namespace conclave::launch {

// Of all that decides what a step draws, the weights aside: these follow from it, too.
std::string RolloutKey(const core::Config& config, const RunParts& parts);

}  // namespace conclave::launch
