// SPDX-License-Identifier: Apache-2.0
// Learning rate over the steps. All schedules begin with a linear warm-up; no libm (core/base/exact_math.h).
//   constant     optim.lr
//   linear       down to final_factor at the last step
//   cosine       the same on half a cosine
//   wsd          warm-up, constant, linear decay over the last decay_steps
//   deepseek_v3  warm-up, constant_steps, cosine over decay_steps to final_factor, constant, last tail_steps at tail_factor
#pragma once

#include <cstdint>

#include "core/config/config.h"

namespace conclave::optim {

// Learning rate of step 1..total_steps.
double LearningRate(const core::OptimConfig& config, int64_t step, int64_t total_steps);

}  // namespace conclave::optim
