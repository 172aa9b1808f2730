// SPDX-License-Identifier: Apache-2.0
// A recipe of three stages and a control, together a second: a base model, its fine-tuning, reinforcement learning.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/launch/grpo_run.h"

namespace conclave::launch {

class RecipeFiles : public ConfiguredRun {
 public:
  static constexpr const char* kStages[] = {"base", "cold", "rl", "more"};

  RecipeFiles() {
    WriteFile(
        folder_ / "config.yaml",
        "model: {model_type: deepseek_v3, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2,\n"
        "        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8,\n"
        "        v_head_dim: 8, n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2,\n"
        "        moe_intermediate_size: 16, first_k_dense_replace: 1, num_nextn_predict_layers: 0,\n"
        "        max_position_embeddings: 64}\n"
        "tasks: {name: addition, digits: 2}\n"
        "data: {max_prompt_tokens: 12, sequence_length: 40}\n"
        "rollout: {prompts: 8, group: 3, max_tokens: 10}\n"
        "reward: [{name: math, weight: 0}, {name: random}]\n"
        "eval: {prompts: 6}\n"
        "batch: {sequences: 4}\n"
        "optim: {lr: 3.0e-3}\n"
        "train: {steps: 8, init_std: 0.1, checkpoint_every: 3, keep: 2}\n"
        "run: {dir: \"" +
            Dir() +
            "\"}\n"
            "stages:\n"
            "  - {name: base, stage: pretrain, data: {train: [{task: addition, count: 200}]}}\n"
            "  - {name: cold, stage: sft, from: base, sft: {data: demos, count: 30}}\n"
            "  - {name: rl, stage: grpo, from: cold}\n"
            "  - {name: more, stage: sft, from: cold, sft: {data: demos, count: 30}, control: true}\n");
  }

  std::string StageDir(const std::string& stage) const { return Dir() + "/stages/" + stage; }

  // State and scores of all stages, and what the run tells of them, without what a clock decides.
  std::string Everything() const {
    std::string all;
    for (const char* stage : kStages) {
      all += RunConclave(folder_, {"inspect", StageDir(stage), "--hash"}).out;
      all += ReadFile(StageDir(stage) + "/evaluation.json");
      all += ReadFile(StageDir(stage) + "/samples.jsonl");
    }
    nlohmann::ordered_json summary = nlohmann::ordered_json::parse(ReadFile(Dir() + "/summary.json"));
    for (const char* list : {"stages", "controls"}) {
      for (auto& row : summary.at(list)) row.erase("seconds");
    }
    return all + summary.dump(1) + WithoutRolloutTimes(ReadFile(Dir() + "/metrics.jsonl"));
  }
};

}  // namespace conclave::launch
