// SPDX-License-Identifier: Apache-2.0
// Runs of stages reject and distill, of a second each, on a model that has learned to add two digits now and then.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/rng.h"
#include "tests/launch/grpo_run.h"

namespace conclave::launch {

inline std::vector<nlohmann::json> JsonLines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
  }
  return lines;
}

inline std::string TaskOptions() {
  return "tasks: {name: addition, digits: 1}\n"
         "data: {max_prompt_tokens: 12, sequence_length: 48}\n"
         "rollout: {prompts: 6, max_tokens: 30}\n"
         "reward: [{name: math}, {name: format, weight: 0.5}]\n"
         "eval: {prompts: 5}\n";
}

// The model that is sampled: made by a run of stage sft.
class SampledModel {
 public:
  SampledModel() {
    WriteFile(
        folder_ / "base.yaml",
        "stage: sft\n"
        "model: {model_type: deepseek_v3, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 4,\n"
        "        num_attention_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8,\n"
        "        v_head_dim: 8, n_routed_experts: 4, n_shared_experts: 1, num_experts_per_tok: 2,\n"
        "        moe_intermediate_size: 16, first_k_dense_replace: 1, num_nextn_predict_layers: 0,\n"
        "        max_position_embeddings: 64}\n" +
            TaskOptions() +
            "sft: {data: demos, count: 60}\n"
            "batch: {sequences: 16}\n"
            "optim: {lr: 1.0e-2}\n"
            "train: {steps: 150, init_std: 0.1}\n"
            "run: {dir: \"" +
            Dir() + "\"}\n");
  }
  Outcome Train() const { return RunConclave(folder_, {"train", folder_ / "base.yaml", "--threads", "1"}); }
  std::string Dir() const { return folder_ / "base"; }

 private:
  TemporaryFolder folder_;
};

class RejectRun : public ConfiguredRun {
 public:
  // `options`: what the stage is, as YAML.
  explicit RejectRun(const std::string& options) {
    WriteFile(folder_ / "config.yaml", options + TaskOptions() + "run: {dir: \"" + Dir() + "\"}\n");
  }
  static std::string OfReject(const SampledModel& model) {
    return "stage: reject\nmodel: {from: \"" + model.Dir() + "\"}\nreject: {prompts: 40, samples: 4, keep: 2}\n";
  }
  // What is learned from a teacher:
  static constexpr char kSamples[] = "distill: {prompts: 40, samples: 4, keep: 2}\nbatch: {sequences: 4}\n";
  static constexpr char kForwardKl[] =
      "distill: {loss: forward_kl, prompts: 40, samples: 4, keep: 2}\nbatch: {sequences: 4}\n";
  static constexpr char kOwnSamples[] = "distill: {loss: reverse_kl, source: student}\n";
  static std::string OfDistill(const SampledModel& teacher, const std::string& loss = kSamples) {
    return "stage: distill\nteacher: \"" + teacher.Dir() +
           "\"\nmodel: {model_type: qwen2, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2,\n"
           "        num_attention_heads: 2, num_key_value_heads: 1, max_position_embeddings: 64}\n"
           "optim: {lr: 1.0e-2}\n"
           "train: {steps: 30, checkpoint_every: 4, init_std: 0.1}\n" +
           loss;
  }

  std::string File() const { return Dir() + "/data/reject.jsonl"; }
  std::string Lines() const { return ReadFile(File()); }
  std::string TeacherLines() const { return ReadFile(Dir() + "/data/teacher.jsonl"); }
  std::string Metrics() const { return WithoutRolloutTimes(ReadFile(Dir() + "/metrics.jsonl")); }
};

// Until it is done, started again and again.
inline void TrainUnderKills(const RejectRun& run, uint64_t key) {
  for (uint64_t start = 0;; ++start) {
    ASSERT_LT(start, 300u);
    Program program(run.folder(), run.TrainArguments());
    const uint64_t draw = core::Philox(core::RandomKey(key, core::RandomPurpose::kTest, 0), start, 0)[0];
    std::this_thread::sleep_for(std::chrono::microseconds(draw % 150000 + start * 3000));
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    if (outcome.code == 0) break;
    ASSERT_EQ(outcome.code, -SIGKILL) << outcome.err;
  }
}

}  // namespace conclave::launch
