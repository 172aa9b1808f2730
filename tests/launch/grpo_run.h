// SPDX-License-Identifier: Apache-2.0
// A run of stage grpo of a second: a model that knows nothing, and a reward that is a coin, so that every step has a
// gradient.
#pragma once

#include <string>
#include <vector>

#include "tests/launch/tiny_run.h"

namespace conclave::launch {

// Metrics of a rollout without what a clock decides.
inline std::string WithoutRolloutTimes(const std::string& metrics) {
  std::string out;
  for (size_t begin = 0, end; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1) {
    nlohmann::ordered_json line = nlohmann::ordered_json::parse(metrics.substr(begin, end - begin));
    for (const char* key :
         {"seconds", "data_seconds", "tokens_per_second", "model_flops_per_second", "generate_seconds", "score_seconds",
          "update_seconds", "generated_tokens_per_second", "trained_tokens_per_second"}) {
      line.erase(key);
    }
    out += line.dump() + "\n";
  }
  return out;
}

class GrpoRun : public ConfiguredRun {
 public:
  static constexpr int kSteps = 20;

  GrpoRun() {
    WriteFile(
        folder_ / "config.yaml",
        "stage: grpo\n"
        "model: {model_type: deepseek_v3, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 4,\n"
        "        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8,\n"
        "        v_head_dim: 8, n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2,\n"
        "        moe_intermediate_size: 16, first_k_dense_replace: 1, num_nextn_predict_layers: 0,\n"
        "        max_position_embeddings: 64}\n"
        "tasks: {name: addition, digits: 2}\n"
        "data: {max_prompt_tokens: 12, sequence_length: 40}\n"
        "rollout: {prompts: 8, group: 3, max_tokens: 10}\n"
        "reward: [{name: random}, {name: format, weight: 0.5}]\n"
        "grpo: {minibatches: 2, kl: {coefficient: 0.02}}\n"
        "eval: {prompts: 5, samples: 2}\n"
        "optim: {lr: 3.0e-3}\n"
        "train: {steps: 20, init_std: 0.1, validate_every: 5, checkpoint_every: 4, keep: 2}\n"
        "run: {dir: \"" +
            Dir() + "\"}\n");
  }

  std::string Metrics() const { return WithoutRolloutTimes(ReadFile(Dir() + "/metrics.jsonl")); }
  std::string Samples() const { return ReadFile(Dir() + "/samples.jsonl"); }
  std::string Rollout(int step) const { return ReadFile(Dir() + "/rollouts/step_" + std::to_string(step) + ".jsonl"); }
};

}  // namespace conclave::launch
