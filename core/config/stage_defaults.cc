// SPDX-License-Identifier: Apache-2.0
#include "core/config/stage_defaults.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace conclave::core {
namespace {

constexpr int64_t kRolloutRow = 512;  // tokens

const YamlNode* FindPath(const YamlNode& root, std::string_view path) {
  const YamlNode* node = &root;
  while (node != nullptr && !path.empty()) {
    const size_t dot = path.find('.');
    node = node->IsMap() ? node->Find(path.substr(0, dot)) : nullptr;
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return node;
}

std::string TextAt(const YamlNode& root, std::string_view path) {
  const YamlNode* node = FindPath(root, path);
  return node != nullptr && node->IsScalar() ? node->text : "";
}

// What each paper changes of GRPO (arXiv 2402.03300); sources stand beside the names.
void ApplyPreset(std::string_view preset, GrpoConfig& grpo) {
  if (preset == "dapo") {  // 2503.14476
    grpo.aggregate = "token";
    grpo.clip.high = 0.28;
    grpo.dynamic_sampling.enabled = true;
  } else if (preset == "dr_grpo") {  // 2503.20783
    grpo.aggregate = "constant";
    grpo.advantage.std = "none";
  } else if (preset == "gspo") {  // 2507.18071
    grpo.ratio = "sequence";
    grpo.clip = {.low = 3e-4, .high = 4e-4, .dual = {}, .cap = {}};
  } else if (preset == "cispo") {  // 2506.13585
    grpo.aggregate = "token";
    grpo.clip.cap = 5.0;
  } else if (preset == "rloo") {  // 2402.14740
    grpo.aggregate = "constant";
    grpo.advantage = {.baseline = "leave_one_out", .std = "none"};
  } else if (preset == "reinforce_pp") {  // 2501.03262
    grpo.aggregate = "token";
    grpo.advantage = {.baseline = "batch", .std = "batch"};
    grpo.kl = {.coefficient = 0.01, .estimator = "k1", .place = "reward"};
  }
}

}  // namespace

Config DefaultsFor(const YamlNode& root) {
  Config config;
  const std::string stage = TextAt(root, "stage");
  // Later stages neither predict ahead nor push tokens to other experts.
  if (!stage.empty() && stage != "pretrain") config.moe = {.bias_update_speed = 0, .balance_loss = 0, .mtp_weight = 0};
  if (stage == "grpo") {
    config.optim.lr = 2e-4;
    config.optim.weight_decay = 0;
  }
  if (stage == "sft" || stage == "distill") config.data.mask_documents = true;
  ApplyPreset(TextAt(root, "grpo.preset"), config.grpo);
  return config;
}

void FillFromOthers(const YamlNode& root, Config& config) {
  if (config.stage == "pretrain") return;
  const bool draws = config.stage != "sft";
  const int64_t longest = config.data.max_prompt_tokens + config.rollout.max_tokens;
  if (FindPath(root, "data.sequence_length") == nullptr) {
    if (config.stage == "distill") config.data.sequence_length = std::max(config.data.sequence_length, longest);
    // Long rows: less of them is left over at their ends.
    if (config.TrainsOnRollouts()) config.data.sequence_length = std::max(kRolloutRow, 2 * longest);
  }
  if (config.stage == "distill" && config.TrainsOnRollouts()) {
    // The step of a policy, without what makes rewards a loss: every token counts alike, once.
    config.grpo = {.aggregate = "token", .advantage = {.baseline = "none", .std = "none"}};
    if (FindPath(root, "distill.temperature") == nullptr) config.distill.temperature = config.rollout.temperature;
  }
  const auto all_tasks = [&](const char* split, std::vector<SourceConfig>& sources) {
    for (const TaskConfig& task : config.tasks) {
      SourceConfig& source = sources.emplace_back();
      source.task = task.name;
      source.split = split;
    }
  };
  if (draws && config.data.prompts.empty()) all_tasks("train", config.data.prompts);
  if (FindPath(root, "data.validation") == nullptr && config.data.validation_fraction == 0) {
    all_tasks("held_out", config.data.validation);
  }
}

}  // namespace conclave::core
