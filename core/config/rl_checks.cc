// SPDX-License-Identifier: Apache-2.0
#include "core/config/rl_checks.h"

#include <algorithm>
#include <string>

#include "core/base/status_macros.h"
#include "core/config/checks.h"
#include "core/config/nearest.h"

namespace conclave::core {
namespace {

constexpr int64_t kMost = 1 << 20;
constexpr int64_t kMostSamples = 1 << 12;  // of one prompt: what names of draws have room for

absl::Status ValidateRollout(const RolloutConfig& rollout) {
  RETURN_IF_ERROR(InRange("rollout.prompts", rollout.prompts, 1, kMost));
  RETURN_IF_ERROR(InRange("rollout.group", rollout.group, 1, kMostSamples));
  if (rollout.prompts > kMost / rollout.group) {
    return Refuse("rollout.group", rollout.group,
                  absl::StrFormat("samples of %d prompts are more than %d", rollout.prompts, kMost));
  }
  RETURN_IF_ERROR(InRange("rollout.max_tokens", rollout.max_tokens, 1, kMost));
  RETURN_IF_ERROR(InRange("rollout.temperature", rollout.temperature, 0.0, 1e3));
  if (!(rollout.top_p > 0 && rollout.top_p <= 1)) {
    return Refuse("rollout.top_p", rollout.top_p, "is not a share: it must be above 0, at most 1");
  }
  RETURN_IF_ERROR(InRange("rollout.top_k", rollout.top_k, 0, kMost));
  RETURN_IF_ERROR(InRange("rollout.min_p", rollout.min_p, 0.0, 1.0));
  for (size_t i = 0; i < rollout.stop.size(); ++i) {
    if (rollout.stop[i].empty()) {
      return Refuse(absl::StrFormat("rollout.stop.%d", i), rollout.stop[i], "would end a response before it begins");
    }
  }
  RETURN_IF_ERROR(IsOneOf("rollout.cache", rollout.cache, {"expanded", "latent"}));
  return InRange("rollout.decode_batch", rollout.decode_batch, 0, kMost);
}

absl::Status ValidateReward(const std::string& key, const RewardConfig& reward) {
  RETURN_IF_ERROR(IsOneOf(
      key + ".name", reward.name,
      {"math", "exact", "numeric", "format", "language", "length", "overlong", "repetition", "random", "program"}));
  RETURN_IF_ERROR(InRange(key + ".weight", reward.weight, -1e6, 1e6));
  RETURN_IF_ERROR(IsOneOf(key + ".fallback", reward.fallback, {"none", "last_number"}));
  RETURN_IF_ERROR(IsOneOf(key + ".on_error", reward.on_error, {"mask", "zero"}));
  RETURN_IF_ERROR(InRange(key + ".max_failed", reward.max_failed, 0.0, 1.0));
  RETURN_IF_ERROR(InRange(key + ".timeout_seconds", reward.timeout_seconds, 0.001, 1e6));
  RETURN_IF_ERROR(InRange(key + ".memory_mib", reward.memory_mib, 1, kMost));
  RETURN_IF_ERROR(InRange(key + ".target_tokens", reward.target_tokens, 0, kMost));
  RETURN_IF_ERROR(InRange(key + ".buffer_tokens", reward.buffer_tokens, 0, kMost));
  if ((reward.name == "program") != !reward.command.empty()) {
    return Refuse(key + ".command", reward.command,
                  reward.command.empty() ? "is empty; name: program needs the path of one, such as [python3, verify.py]"
                                         : "has no effect without name: program");
  }
  return absl::OkStatus();
}

absl::Status ValidateLoss(const GrpoConfig& grpo) {
  RETURN_IF_ERROR(
      IsOneOf("grpo.preset", grpo.preset, {"grpo", "dapo", "dr_grpo", "gspo", "cispo", "rloo", "reinforce_pp"}));
  RETURN_IF_ERROR(InRange("grpo.minibatches", grpo.minibatches, 1, kMost));
  RETURN_IF_ERROR(InRange("grpo.passes", grpo.passes, 1, kMost));
  RETURN_IF_ERROR(IsOneOf("grpo.aggregate", grpo.aggregate, {"token", "sequence", "constant"}));
  RETURN_IF_ERROR(IsOneOf("grpo.ratio", grpo.ratio, {"token", "sequence"}));
  RETURN_IF_ERROR(
      IsOneOf("grpo.advantage.baseline", grpo.advantage.baseline, {"group", "leave_one_out", "batch", "none"}));
  RETURN_IF_ERROR(IsOneOf("grpo.advantage.std", grpo.advantage.std, {"sample", "population", "batch", "none"}));
  if (!(grpo.advantage.eps > 0 && grpo.advantage.eps <= 1)) {
    return Refuse("grpo.advantage.eps", grpo.advantage.eps,
                  "must be above 0, at most 1: it keeps groups finite whose rewards are all equal");
  }
  RETURN_IF_ERROR(InRange("grpo.clip.low", grpo.clip.low, 0.0, 1.0));
  RETURN_IF_ERROR(InRange("grpo.clip.high", grpo.clip.high, 0.0, 1e6));
  if (grpo.clip.dual) RETURN_IF_ERROR(InRange("grpo.clip.dual", *grpo.clip.dual, 1.0, 1e6));
  if (grpo.clip.cap) RETURN_IF_ERROR(InRange("grpo.clip.cap", *grpo.clip.cap, 1e-6, 1e6));
  RETURN_IF_ERROR(InRange("grpo.kl.coefficient", grpo.kl.coefficient, 0.0, 1e6));
  RETURN_IF_ERROR(IsOneOf("grpo.kl.estimator", grpo.kl.estimator, {"k1", "k2", "k3"}));
  RETURN_IF_ERROR(IsOneOf("grpo.kl.place", grpo.kl.place, {"loss", "reward"}));
  RETURN_IF_ERROR(InRange("grpo.kl.refresh", grpo.kl.refresh, 0, int64_t{1} << 40));
  RETURN_IF_ERROR(IsOneOf("grpo.off_policy.correction", grpo.off_policy.correction, {"none", "truncate"}));
  RETURN_IF_ERROR(InRange("grpo.off_policy.max_age", grpo.off_policy.max_age, 0, kMost));
  RETURN_IF_ERROR(InRange("grpo.off_policy.cap", grpo.off_policy.cap, 1e-6, 1e6));
  RETURN_IF_ERROR(InRange("grpo.dynamic_sampling.max_rounds", grpo.dynamic_sampling.max_rounds, 1, kMost));
  if (grpo.router_replay && grpo.minibatches == 1 && grpo.passes == 1) {
    return Refuse("grpo.router_replay", true,
                  "has no effect with grpo.minibatches 1 and grpo.passes 1: the only update of a step begins with the "
                  "weights whose choices would be replayed; leave it out, or give more updates");
  }
  return IsOneOf("grpo.truncated", grpo.truncated, {"score", "mask"});
}

// What every stage needs that has responses drawn.
absl::Status ValidatePrompts(const Config& config) {
  if (!config.data.prompts.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "data.prompts: no problems to solve; give tasks, e.g. tasks: {name: addition}, or data.prompts: [{path: "
      "problems.jsonl}]");
}

absl::Status ValidateRewards(const Config& config) {
  for (size_t i = 0; i < config.reward.size(); ++i) {
    RETURN_IF_ERROR(ValidateReward(absl::StrFormat("reward.%d", i), config.reward[i]));
  }
  return absl::OkStatus();
}

// What every stage needs that has them scored, too.
absl::Status ValidateResponses(const Config& config) {
  RETURN_IF_ERROR(ValidatePrompts(config));
  if (config.reward.empty()) {
    return absl::InvalidArgumentError(
        "reward: nothing says what a response is worth; give e.g. reward: [{name: math}]");
  }
  return ValidateRewards(config);
}

absl::Status RoomForResponses(const Config& config) {
  const int64_t longest = config.data.max_prompt_tokens + config.rollout.max_tokens;
  if (config.data.sequence_length >= longest) return absl::OkStatus();
  return Refuse("data.sequence_length", config.data.sequence_length,
                absl::StrFormat("has no room for a prompt of data.max_prompt_tokens, %d, and a response of "
                                "rollout.max_tokens, %d; give at least %d",
                                config.data.max_prompt_tokens, config.rollout.max_tokens, longest));
}

absl::Status ValidateRejection(const std::string& key, const RejectConfig& reject, const Config& config) {
  RETURN_IF_ERROR(ValidateResponses(config));
  RETURN_IF_ERROR(InRange(key + ".prompts", reject.prompts, 1, int64_t{1} << 32));
  RETURN_IF_ERROR(InRange(key + ".samples", reject.samples, 1, std::min(kMostSamples, kMost / config.rollout.prompts)));
  RETURN_IF_ERROR(InRange(key + ".keep", reject.keep, 1, kMost));
  if (reject.keep > reject.samples) {
    return Refuse(key + ".keep", reject.keep,
                  absl::StrFormat("is more than the %s.samples, %d, that each prompt has", key, reject.samples));
  }
  if (config.rollout.temperature == 0 && reject.samples > 1) {
    return Refuse(key + ".samples", reject.samples,
                  "of a prompt would be the same, as rollout.temperature 0 is greedy; give 1 sample, or a temperature "
                  "above 0");
  }
  if (config.rollout.ignore_eos) {
    return Refuse("rollout.ignore_eos", true, "leaves no response finished, so none would be kept; leave it out");
  }
  return absl::OkStatus();
}

// Of a stage that trains on rollouts.
absl::Status RowsAreDrawn(const Config& config) {
  const std::string why = absl::StrFormat(
      "does not go with %s, whose batch is rollout.prompts times rollout.group responses; leave it out (of batch there "
      "is micro_sequences)",
      config.stage == "grpo" ? "stage grpo" : "distill.source: student");
  const BatchConfig& batch = config.batch;
  if (batch.sequences != BatchConfig().sequences) return Refuse("batch.sequences", batch.sequences, why);
  if (batch.ramp.start != 0) return Refuse("batch.ramp.start", batch.ramp.start, why);
  return absl::OkStatus();
}

// Of a student that learns on its own samples: a verifier may look on, and decides nothing.
absl::Status ValidateOwnSamples(const Config& config) {
  const DistillConfig& distill = config.distill;
  if (distill.loss == "samples") {
    return Refuse("distill.source", distill.source,
                  "needs a teacher that judges each token: a student learns nothing from the cross entropy of its own "
                  "samples; give distill.loss: reverse_kl or forward_kl");
  }
  RETURN_IF_ERROR(ValidatePrompts(config));
  RETURN_IF_ERROR(ValidateRewards(config));
  RETURN_IF_ERROR(RowsAreDrawn(config));
  if (distill.temperature != config.rollout.temperature) {
    return Refuse("distill.temperature", distill.temperature,
                  absl::StrFormat("is not rollout.temperature, %g, with which the student draws what it learns from; "
                                  "remove it",
                                  config.rollout.temperature));
  }
  const RejectConfig unused;
  const struct {
    const char* key;
    int64_t value, otherwise;
  } counts[] = {{"distill.prompts", distill.prompts, unused.prompts},
                {"distill.samples", distill.samples, unused.samples},
                {"distill.keep", distill.keep, unused.keep}};
  for (const auto& [key, value, otherwise] : counts) {
    if (value == otherwise) continue;
    return Refuse(key, value,
                  "is of the teacher's samples; with distill.source: student each step draws rollout.prompts x "
                  "rollout.group; remove it");
  }
  return absl::OkStatus();
}

absl::Status ValidateDistillation(const Config& config) {
  if (config.teacher.empty()) {
    return Refuse("teacher", config.teacher, "is empty; stage distill needs the folder of a model that gives answers");
  }
  RETURN_IF_ERROR(RoomForResponses(config));
  const DistillConfig& distill = config.distill;
  RETURN_IF_ERROR(IsOneOf("distill.loss", distill.loss, {"samples", "forward_kl", "reverse_kl"}));
  RETURN_IF_ERROR(IsOneOf("distill.source", distill.source, {"teacher", "student"}));
  if (distill.source == "student" && config.rollout.temperature == 0) {
    return Refuse("rollout.temperature", config.rollout.temperature,
                  "is greedy: samples would not be of the distribution that learns; give a number above 0");
  }
  if (!(distill.temperature > 0 && distill.temperature <= 1e3)) {
    return Refuse("distill.temperature", distill.temperature,
                  "must be above 0, at most 1000: logits are divided by it");
  }
  if (distill.source == "student") return ValidateOwnSamples(config);
  if (distill.loss == "samples" && distill.temperature != 1) {
    return Refuse("distill.temperature", distill.temperature,
                  "has no effect with distill.loss: samples, whose cross entropy has none; give loss: forward_kl or "
                  "reverse_kl, or remove it");
  }
  return ValidateRejection("distill", distill, config);
}

absl::Status ValidateGrpoStage(const Config& config) {
  RETURN_IF_ERROR(ValidateLoss(config.grpo));
  RETURN_IF_ERROR(ValidateResponses(config));
  const RolloutConfig& rollout = config.rollout;
  const std::string& baseline = config.grpo.advantage.baseline;
  if (rollout.group == 1 && (baseline == "group" || baseline == "leave_one_out")) {
    return Refuse("rollout.group", rollout.group,
                  absl::StrFormat("is no group: with grpo.advantage.baseline %s every advantage would be 0; give 2 or "
                                  "more, or baseline: batch",
                                  baseline));
  }
  RETURN_IF_ERROR(RowsAreDrawn(config));
  if (rollout.prompts % config.grpo.minibatches != 0) {
    return Refuse("grpo.minibatches", config.grpo.minibatches,
                  absl::StrFormat("does not divide rollout.prompts, %d", rollout.prompts));
  }
  if (rollout.temperature == 0) {
    return Refuse("rollout.temperature", rollout.temperature,
                  "is greedy: all samples of a prompt would be the same; give a number above 0");
  }
  const bool filtered = rollout.top_p < 1 || rollout.top_k > 0 || rollout.min_p > 0;
  if (filtered && config.grpo.off_policy.correction == "none") {
    return absl::InvalidArgumentError(
        "grpo.off_policy.correction: none does not go with rollout.top_p, top_k or min_p: samples are then drawn from "
        "another distribution than the one that is trained; give truncate, or draw from all tokens");
  }
  return RoomForResponses(config);
}

}  // namespace

absl::Status ValidateTasks(const std::vector<TaskConfig>& tasks) {
  for (size_t i = 0; i < tasks.size(); ++i) {
    const std::string key = absl::StrFormat("tasks.%d", i);
    const TaskConfig& task = tasks[i];
    RETURN_IF_ERROR(IsOneOf(key + ".name", task.name,
                            {"addition", "arithmetic", "countdown", "linear_equation", "sorting", "word_problem"}));
    RETURN_IF_ERROR(InRange(key + ".digits", task.digits, 1, 9));
    RETURN_IF_ERROR(InRange(key + ".terms", task.terms, 2, 16));
    RETURN_IF_ERROR(InRange(key + ".level", task.level, 1, 10));
    if (!(task.held_out > 0 && task.held_out <= 0.5)) {
      return Refuse(key + ".held_out", task.held_out, "must be above 0, at most 0.5");
    }
    if (task.operators.empty() || task.operators.find_first_not_of("+-*/") != std::string::npos) {
      return Refuse(key + ".operators", task.operators, "must be some of + - * /");
    }
    for (size_t j = 0; j < i; ++j) {
      if (tasks[j].name == task.name) {
        return Refuse(key + ".name", task.name, absl::StrFormat("is the name of tasks.%d, too: sources name tasks", j));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateTaskSource(const std::string& key, const SourceConfig& source,
                                const std::vector<TaskConfig>& tasks) {
  RETURN_IF_ERROR(IsOneOf(key + ".split", source.split, {"train", "held_out"}));
  RETURN_IF_ERROR(InRange(key + ".count", source.count, 0, int64_t{1} << 40));
  RETURN_IF_ERROR(InRange(key + ".worked", source.worked, 0.0, 1.0));
  if (source.task.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const TaskConfig& task : tasks) names.push_back(task.name);
  if (std::find(names.begin(), names.end(), source.task) != names.end()) return absl::OkStatus();
  const std::string_view nearest = Nearest(source.task, names);
  return Refuse(key + ".task", source.task,
                tasks.empty() ? "is none: `tasks` is empty; add e.g. tasks: {name: addition}"
                              : absl::StrFormat("is none of `tasks`; did you mean %s?",
                                                nearest.empty() ? names[0] : std::string(nearest)));
}

absl::Status ValidateFineTuning(const Config& config) {
  RETURN_IF_ERROR(InRange("data.max_prompt_tokens", config.data.max_prompt_tokens, 1, kMost));
  RETURN_IF_ERROR(IsOneOf("data.long_prompts", config.data.long_prompts, {"refuse", "drop"}));
  RETURN_IF_ERROR(ValidateRollout(config.rollout));
  RETURN_IF_ERROR(InRange("eval.prompts", config.eval.prompts, 1, kMost));
  RETURN_IF_ERROR(InRange("eval.samples", config.eval.samples, 1, kMostSamples));
  RETURN_IF_ERROR(InRange("eval.temperature", config.eval.temperature, 0.0, 1e3));
  if (config.stage == "grpo") return ValidateGrpoStage(config);
  if (config.stage == "reject") {
    if (!config.model.from.empty()) return ValidateRejection("reject", config.reject, config);
    return Refuse("model.from", config.model.from, "is empty; stage reject needs the folder of a model to sample from");
  }
  if (config.stage == "distill") RETURN_IF_ERROR(ValidateDistillation(config));
  RETURN_IF_ERROR(IsOneOf("sft.data", config.sft.data, {"", "demos"}));
  RETURN_IF_ERROR(IsOneOf("sft.loss", config.sft.loss, {"answers", "last", "all"}));
  RETURN_IF_ERROR(InRange("sft.count", config.sft.count, 1, int64_t{1} << 40));
  if (config.sft.data == "demos" && config.tasks.empty()) {
    return Refuse("sft.data", config.sft.data, "needs `tasks`, whose worked solutions they are");
  }
  return absl::OkStatus();
}

}  // namespace conclave::core
