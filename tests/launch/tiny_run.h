// SPDX-License-Identifier: Apache-2.0
// A training run of a fraction of a second with everything in it: latent attention, experts, multi-token prediction,
// EMA.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"

#include "tests/launch/program.h"

namespace conclave::launch {

// The metrics without what a clock decides.
inline std::string WithoutTimes(const std::string& metrics) {
  std::string out;
  for (size_t begin = 0, end; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1) {
    nlohmann::ordered_json line = nlohmann::ordered_json::parse(metrics.substr(begin, end - begin));
    for (const char* key : {"seconds", "data_seconds", "tokens_per_second", "model_flops_per_second"}) line.erase(key);
    out += line.dump() + "\n";
  }
  return out;
}

inline int64_t CountLines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

// A folder with config.yaml, and the run in it.
class ConfiguredRun {
 public:
  const TemporaryFolder& folder() const { return folder_; }
  std::string Dir() const { return folder_ / "run"; }

  std::vector<std::string> TrainArguments(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {"train", folder_ / "config.yaml", "--threads", "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Outcome Train(std::vector<std::string> more = {}) const {
    return RunConclave(folder_, TrainArguments(std::move(more)));
  }
  std::string Hash() const { return RunConclave(folder_, {"inspect", Dir(), "--hash"}).out; }

 protected:
  TemporaryFolder folder_;
};

// Text, config and a run folder named `run` inside of a temporary folder.
class TinyRun : public ConfiguredRun {
 public:
  TinyRun() {
    std::string text;
    for (int line = 0; line < 300; ++line)
      text += "line " + std::to_string(line * 7919 % 1000) + " of a text to learn\n";
    WriteFile(folder_ / "text.txt", text);
    WriteFile(
        folder_ / "config.yaml",
        "model: {model_type: deepseek_v3, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 2,\n"
        "        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8,\n"
        "        v_head_dim: 8, n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2,\n"
        "        moe_intermediate_size: 16, first_k_dense_replace: 1, num_nextn_predict_layers: 1,\n"
        "        max_position_embeddings: 64}\n"
        "data: {tokenizer: bytes, train: [{path: \"" +
            (folder_ / "text.txt") +
            "\"}],\n"
            "       validation_fraction: 0.1, sequence_length: 16}\n"
            "batch: {sequences: 4, micro_sequences: 2}\n"
            "optim: {lr: 3.0e-3, ema: 0.9, schedule: {name: cosine, warmup_steps: 3}}\n"
            "train: {steps: 24, validate_every: 5, checkpoint_every: 4, keep: 2}\n"
            "run: {dir: \"" +
            Dir() + "\"}\n");
  }

  std::string Metrics() const { return Dir() + "/metrics.jsonl"; }
};

}  // namespace conclave::launch
