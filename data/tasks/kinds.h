// SPDX-License-Identifier: Apache-2.0
// One constructor per task, for task.cc, which checks the ranges that each states.
#pragma once

#include <cstdint>
#include <memory>

#include "core/config/rl_config.h"
#include "data/tasks/task.h"

namespace conclave::data {

constexpr int64_t kMaxProductDigits = 18;  // of arithmetic: what fits 64 bits

std::unique_ptr<Task> NewAddition(const core::TaskConfig& config);
std::unique_ptr<Task> NewArithmetic(const core::TaskConfig& config);
std::unique_ptr<Task> NewCountdown(const core::TaskConfig& config);
std::unique_ptr<Task> NewLinearEquation(const core::TaskConfig& config);
std::unique_ptr<Task> NewSorting(const core::TaskConfig& config);
std::unique_ptr<Task> NewWordProblem(const core::TaskConfig& config);

}  // namespace conclave::data
