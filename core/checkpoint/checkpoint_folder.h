// SPDX-License-Identifier: Apache-2.0
// The names inside a folder of checkpoints: step_N, and .tmp_step_N_PID while process PID writes or deletes one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::core {

std::string StepPath(const std::string& parent, int64_t step);
std::string TemporaryPath(const std::string& parent, int64_t step);  // of this process

// (step, path) of all step_N folders, newest first; none if parent does not exist.
absl::StatusOr<std::vector<std::pair<int64_t, std::string>>> ListSteps(const std::string& parent);

// Deletes temporary folders whose process is this one or gone.
absl::Status RemoveLeftovers(const std::string& parent);

}  // namespace conclave::core
