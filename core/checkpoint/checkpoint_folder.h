// SPDX-License-Identifier: Apache-2.0
// The names inside a folder of checkpoints: step_N, and .tmp_step_N_PID while process PID writes or deletes one; and
// those of the safetensors files in a checkpoint, before and after it is known how many there are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::core {

inline constexpr char kStateFolder[] = "optimizer";
inline constexpr std::string_view kWeightsStem = "model", kStateStem = "optimizer/state";

// File `shard` (from 0) of one part of a save: "model-part00001-00002.safetensors".
std::string PartFileName(std::string_view stem, int part, size_t shard);
// File `shard` (from 0) of `count`, under its last name: "model-00001-of-00003.safetensors".
std::string ShardFileName(std::string_view stem, size_t shard, size_t count);

std::string StepPath(const std::string& parent, int64_t step);
std::string TemporaryPath(const std::string& parent, int64_t step);  // of this process
bool IsTemporaryPath(const std::string& path);                       // of any

// (step, path) of all step_N folders, newest first; none if parent does not exist.
absl::StatusOr<std::vector<std::pair<int64_t, std::string>>> ListSteps(const std::string& parent);

// Deletes temporary folders whose process is this one or gone.
absl::Status RemoveLeftovers(const std::string& parent);

}  // namespace conclave::core
