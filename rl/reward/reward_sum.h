// SPDX-License-Identifier: Apache-2.0
// Several rewards as one: the sum of what they give, each times its weight.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "rl/reward/reward.h"

namespace conclave::rl {

struct ScoredBatch {
  std::vector<double> totals;             // [responses]
  std::vector<std::vector<Score>> parts;  // [rewards][responses], without weights
  std::vector<bool> masked;               // [responses], a verifier with on_error: mask failed
  std::vector<int64_t> num_failed;        // [rewards], responses on which the verifier failed
};

class RewardSum {
 public:
  static absl::StatusOr<RewardSum> Create(std::span<const core::RewardConfig> configs);

  size_t size() const { return rewards_.size(); }
  std::string_view name(size_t reward) const { return rewards_[reward]->name(); }
  // As the keys of an object: no name stands twice.
  std::vector<std::string> Names() const;
  ScoredBatch ScoreAll(std::span<const Response> responses) const;

  // An error if `reward` failed on more of `num_responses`, those of a step, than its max_failed allows.
  absl::Status CheckFailures(size_t reward, int64_t num_failed, int64_t num_responses) const;

 private:
  RewardSum() = default;

  std::vector<core::RewardConfig> configs_;
  std::vector<std::unique_ptr<Reward>> rewards_;
};

}  // namespace conclave::rl
