// SPDX-License-Identifier: Apache-2.0
#include "rl/grpo_config.h"

#include <algorithm>

#include "rl/rollout_packing.h"

namespace conclave::rl {
namespace {

int64_t LongestDocument(const core::Config& config) {
  return config.data.max_prompt_tokens + config.rollout.max_tokens - 1;
}

}  // namespace

int64_t ReferenceStep(const core::GrpoConfig& config, int64_t steps) {
  return config.kl.refresh > 0 ? steps / config.kl.refresh * config.kl.refresh : 0;
}

bool NeedsLogProbs(const core::Config& config) {
  return config.grpo.off_policy.correction != "none" || config.rollout.cache == "latent";
}

int64_t UpdatesPerStep(const core::GrpoConfig& config) { return config.minibatches * config.passes; }

int64_t RowsOfMinibatch(const core::Config& config) {
  const int64_t episodes = config.rollout.prompts * config.rollout.group / config.grpo.minibatches;
  return MostRows(episodes, LongestDocument(config), config.data.sequence_length);
}

core::Config TrainerConfig(const core::Config& config) {
  core::Config trainer = config;
  const int64_t episodes = config.rollout.prompts * config.rollout.group;
  trainer.batch.sequences = MostRows(episodes, LongestDocument(config), config.data.sequence_length);
  trainer.batch.micro_sequences = std::min(config.batch.micro_sequences, trainer.batch.sequences);
  const int64_t updates = UpdatesPerStep(config.grpo);
  trainer.train.steps *= updates;
  core::ScheduleConfig& schedule = trainer.optim.schedule;
  for (int64_t* steps :
       {&schedule.warmup_steps, &schedule.constant_steps, &schedule.decay_steps, &schedule.tail_steps}) {
    *steps *= updates;
  }
  return trainer;
}

}  // namespace conclave::rl
