// SPDX-License-Identifier: Apache-2.0
// The rollouts that a run keeps: stages/.../rollouts/step_N.jsonl, one file per step, written at one instant and never
// changed. A run that was killed behind a rollout and goes on before it takes it from here, rewards included: what an
// external verifier said is not asked twice. The first line names what the rollout depends on; a file of other options
// is drawn anew.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::rl {

class RolloutStore {
 public:
  // `key`: changes whenever the rollouts would.
  RolloutStore(std::string dir, std::string key) : dir_(std::move(dir)), key_(std::move(key)) {}

  const std::string& dir() const { return dir_; }
  std::string PathOf(int64_t step) const;
  // The lines of a step; none if there is no such file, or one of another key.
  absl::StatusOr<std::optional<std::string>> Load(int64_t step) const;
  absl::Status Save(int64_t step, std::string_view lines) const;
  // What any run wrote, whatever its key: for replay.
  static absl::StatusOr<std::string> LoadAny(const std::string& path);

 private:
  std::string dir_, key_;
};

}  // namespace conclave::rl
