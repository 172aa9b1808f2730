// SPDX-License-Identifier: Apache-2.0
// The rules of fine-tuning and reinforcement learning. Messages as those of Validate (config.h), of which this is a
// part.
#pragma once

#include "absl/status/status.h"

#include "core/config/config.h"

namespace conclave::core {

absl::Status ValidateTasks(const std::vector<TaskConfig>& tasks);
// A source that names a task names one of these.
absl::Status ValidateTaskSource(const std::string& key, const SourceConfig& source,
                                const std::vector<TaskConfig>& tasks);
// Of all stages but pretrain.
absl::Status ValidateFineTuning(const Config& config);

}  // namespace conclave::core
