// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/reward_sum.h"

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::rl {

absl::StatusOr<RewardSum> RewardSum::Create(std::span<const core::RewardConfig> configs) {
  RewardSum sum;
  for (size_t i = 0; i < configs.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Reward>> reward = CreateReward(configs[i]);
    if (!reward.ok()) {
      return absl::Status(reward.status().code(), absl::StrFormat("reward.%d.%s", i, reward.status().message()));
    }
    sum.configs_.push_back(configs[i]);
    sum.rewards_.push_back(*std::move(reward));
  }
  return sum;
}

std::vector<std::string> RewardSum::Names() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < rewards_.size(); ++i) {
    std::string own(name(i));
    for (size_t before = 0; before < i; ++before) {
      if (names[before] == own) own += absl::StrFormat("_%d", i);
    }
    names.push_back(std::move(own));
  }
  return names;
}

ScoredBatch RewardSum::ScoreAll(std::span<const Response> responses) const {
  ScoredBatch batch{.totals = std::vector<double>(responses.size()),
                    .parts = {},
                    .masked = std::vector<bool>(responses.size()),
                    .num_failed = std::vector<int64_t>(rewards_.size())};
  for (size_t reward = 0; reward < rewards_.size(); ++reward) {
    std::vector<Score>& scores = batch.parts.emplace_back(responses.size());
    rewards_[reward]->ScoreAll(responses, scores);
    for (size_t i = 0; i < scores.size(); ++i) {
      batch.totals[i] += configs_[reward].weight * scores[i].value;
      if (scores[i].outcome != Outcome::kVerifierFailed) continue;
      ++batch.num_failed[reward];
      if (configs_[reward].on_error == "mask") batch.masked[i] = true;
    }
  }
  return batch;
}

absl::Status RewardSum::CheckFailures(size_t reward, int64_t num_failed, int64_t num_responses) const {
  const double most = configs_[reward].max_failed;
  if (static_cast<double>(num_failed) <= most * static_cast<double>(num_responses)) return absl::OkStatus();
  return absl::UnavailableError(absl::StrFormat(
      "reward.%d (%s): the verifier failed on %d of %d responses, more than max_failed (%g) allows; see the reasons in "
      "the rollouts, mend the program and go on with the same command",
      reward, name(reward), num_failed, num_responses, most));
}

}  // namespace conclave::rl
