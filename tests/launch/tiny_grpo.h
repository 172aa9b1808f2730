// SPDX-License-Identifier: Apache-2.0
// Three steps of reinforcement learning of which all checkpoints stay. Texts that end a response make lengths, and with
// them every figure, depend on all that was drawn; multi-token prediction is there and draws nothing.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "tests/launch/grpo_run.h"

namespace conclave::launch {

class TinyGrpo : public GrpoRun {
 public:
  std::string RolloutPath(int step) const { return Dir() + "/rollouts/step_" + std::to_string(step) + ".jsonl"; }
  std::string Checkpoint(int step) const { return Dir() + "/checkpoints/step_" + std::to_string(step); }

  std::vector<std::string> TrainArguments(const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> all = {
        "model.num_nextn_predict_layers=1",
        "tasks.digits=1",
        "data={tokenizer: bytes, max_prompt_tokens: 16}",
        "rollout={prompts: 4, group: 4, max_tokens: 16, stop: ['1', '2', '3', a, e, i, o, t, n, s]}",
        "reward=[{name: random}, {name: math, weight: 0.5}]",
        "grpo={}",
        "eval={prompts: 8, samples: 4}",
        "train={steps: 3, checkpoint_every: 1, keep: 10}"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    return GrpoRun::TrainArguments(all);
  }
  Outcome Train(const std::vector<std::string>& overrides = {}) const {
    return RunConclave(folder(), TrainArguments(overrides));
  }
  nlohmann::json LastMetrics() const {
    const std::string metrics = ReadFile(Dir() + "/metrics.jsonl");
    return nlohmann::json::parse(metrics.substr(metrics.rfind('\n', metrics.size() - 2) + 1));
  }
};

}  // namespace conclave::launch
