// SPDX-License-Identifier: Apache-2.0
// Rollouts: prompts of given draws, responses, rewards. Data ranks share the draws; all ranks end up with all groups.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/model.h"
#include "data/prompts.h"
#include "data/tokenizer.h"
#include "parallel/layout.h"
#include "rl/ending.h"
#include "rl/episode.h"
#include "rl/generator.h"
#include "rl/reward/reward_sum.h"

namespace conclave::rl {

struct SamplerSeconds {
  double generate = 0, score = 0;
};

class Sampler {
 public:
  struct Parts {  // what outlives it
    core::Model& model;
    const parallel::Layout& layout;
    const data::Tokenizer& tokenizer;
    const RewardSum& rewards;
  };
  // Collective. `prefill`: text of a prompt's end that belongs to the response (ChatTemplate::Prefill).
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(const Parts& parts, const core::RolloutConfig& rollout,
                                                         int64_t max_prompt_tokens, uint64_t seed, std::string prefill);

  // Groups of `samples` responses to the prompts of draws [first, first + count). Collective; the same on all ranks.
  using PromptOf = std::function<data::Prompt(int64_t)>;
  absl::StatusOr<std::vector<Group>> Draw(int64_t first, int64_t count, int64_t version, const PromptOf& prompt_of);

  // Of the parts of each episode, in their order.
  std::vector<std::string> RewardNames() const { return parts_.rewards.Names(); }

  const SamplerSeconds& seconds() const { return seconds_; }

 private:
  Sampler(const Parts& parts, const core::RolloutConfig& rollout, uint64_t seed, std::string prefill)
      : parts_(parts), rollout_(rollout), seed_(seed), prefill_(std::move(prefill)) {}
  std::vector<Group> Generate(int64_t begin, int64_t end, int64_t version, const PromptOf& prompt_of,
                              std::vector<std::string>& prompt_texts);
  // An error, on all ranks, if a verifier failed too often.
  absl::Status CheckFailures(const std::vector<Group>& groups) const;
  void ScoreGroups(std::vector<Group>& groups, const std::vector<std::string>& prompt_texts) const;

  const Parts parts_;
  const core::RolloutConfig rollout_;
  const uint64_t seed_;
  const std::string prefill_;
  EndingRule ending_;
  std::unique_ptr<Generator> generator_;
  SamplerSeconds seconds_;
};

}  // namespace conclave::rl
