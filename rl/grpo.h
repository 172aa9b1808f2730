// SPDX-License-Identifier: Apache-2.0
// One step of reinforcement learning: draw responses, score them, turn rewards into advantages, update (GRPO,
// arXiv 2402.03300, and its relatives, which are values of core::GrpoConfig). With a teacher the update is that of
// on-policy distillation (GKD, arXiv 2306.13649): its divergence at each token instead of advantages. All ranks compute
// everything from the same episodes; only generation and the passes of models are shared out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "optim/log_probs.h"
#include "optim/teacher.h"
#include "optim/trainer.h"
#include "rl/episode.h"
#include "rl/grpo_metrics.h"
#include "rl/rollout_store.h"
#include "rl/sampler.h"

namespace conclave::rl {

class Grpo {
 public:
  struct Parts {  // what outlives it
    optim::Trainer& trainer;
    const parallel::Layout& layout;
    Sampler& sampler;
    optim::LogProbs* log_probs = nullptr;  // of the model that learns; with NeedsLogProbs
    optim::LogProbs* reference = nullptr;  // with kl.coefficient above 0
    optim::Teacher* teacher = nullptr;     // whose distributions are learned; rewards then have no part in the loss
    const RolloutStore* store = nullptr;   // of rank 0
    Sampler::PromptOf prompt_of;
  };
  Grpo(Parts parts, const core::Config& config);

  // Step `step` (1, 2, ...); `next_draw` moves on behind the prompts drawn. Collective. An error if samples of the
  // present weights do not have, to the bit, the log-probabilities they were drawn with.
  absl::StatusOr<GrpoMetrics> Step(int64_t step, int64_t& next_draw);

  // Of the last step.
  const std::vector<Group>& groups() const { return groups_; }

 private:
  absl::Status Rollout(int64_t step, int64_t& next_draw, GrpoMetrics& metrics);
  absl::StatusOr<std::vector<Group>> DrawGroups(int64_t version, int64_t& next_draw);
  absl::Status DrawAndStore(int64_t step, int64_t next_draw);
  // Of rank 0, on all ranks: the lines that are stored for a step; "" if there are none.
  absl::StatusOr<std::string> StoredLines(int64_t step) const;
  // Samples of the weights as they are.
  bool AreFresh(int64_t step) const { return groups_.empty() || groups_[0].episodes[0].version == step - 1; }
  // Sets what the update reads of episodes: old and reference log-probabilities, advantages.
  void Weigh(int64_t step, GrpoMetrics& metrics);
  void ComputeOldLogProbs(int64_t step, GrpoMetrics& metrics);
  void Correct();
  void ComputeLogProbs(optim::LogProbs& log_probs, std::vector<float> Episode::*into);
  // Equal shares of the groups that are kept, in the order of draws.
  std::span<Group> Minibatch(int64_t index);
  absl::Status Update(int64_t step, GrpoMetrics& metrics);
  // What router replay does in an update; nothing if it is off.
  std::optional<optim::ReplayUse> ReplayIn(int64_t update) const;
  // The choices of the present weights in all minibatches but the first, whose update comes first and records them.
  void RecordChoices();
  absl::Status CheckSampler(int64_t step, const optim::PolicyMetrics& policy, GrpoMetrics& metrics) const;

  const Parts parts_;
  const core::Config config_;
  std::vector<Group> groups_;
};

}  // namespace conclave::rl
