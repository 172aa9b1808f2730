// SPDX-License-Identifier: Apache-2.0
// A run of reinforcement learning of a second: a tiny mixture of experts that learns sums of one digit, from nothing.
// Texts that end a response make lengths, and with them every figure, depend on all that was drawn.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "tests/launch/program.h"

namespace conclave::launch {

class TinyGrpo {
 public:
  TinyGrpo() {
    WriteFile(
        folder_ / "config.yaml",
        "stage: grpo\n"
        "model: {model_type: deepseek_v3, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 4,\n"
        "        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8,\n"
        "        v_head_dim: 8, n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2,\n"
        "        moe_intermediate_size: 16, first_k_dense_replace: 1, num_nextn_predict_layers: 1,\n"
        "        max_position_embeddings: 64}\n"
        "tasks: {name: addition, digits: 1}\n"
        "data: {tokenizer: bytes, max_prompt_tokens: 16}\n"
        "rollout: {prompts: 4, group: 4, max_tokens: 16, stop: [\"1\", \"2\", \"3\", a, e, i, o, t, n, s]}\n"
        "reward: [{name: random, weight: 1.0}, {name: math, weight: 0.5}]\n"
        "eval: {prompts: 8, samples: 4}\n"
        "optim: {lr: 3.0e-3}\n"
        "train: {steps: 3, checkpoint_every: 1, keep: 10}\n"
        "run: {dir: \"" +
            Dir() + "\"}\n");
  }

  const TemporaryFolder& folder() const { return folder_; }
  std::string Dir() const { return folder_ / "run"; }
  std::string Rollouts(int step) const { return Dir() + "/rollouts/step_" + std::to_string(step) + ".jsonl"; }
  std::string Checkpoint(int step) const { return Dir() + "/checkpoints/step_" + std::to_string(step); }

  std::vector<std::string> TrainArguments(const std::vector<std::string>& overrides = {}) const {
    std::vector<std::string> arguments = {"train", folder_ / "config.yaml", "--threads", "1"};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return arguments;
  }
  Outcome Train(const std::vector<std::string>& overrides = {}) const {
    return RunConclave(folder_, TrainArguments(overrides));
  }
  nlohmann::json LastMetrics() const {
    const std::string metrics = ReadFile(Dir() + "/metrics.jsonl");
    return nlohmann::json::parse(metrics.substr(metrics.rfind('\n', metrics.size() - 2) + 1));
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace conclave::launch
