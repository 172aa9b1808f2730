// SPDX-License-Identifier: Apache-2.0
// The rules that one field's type cannot state: ranges, and what must fit together. One function per group of keys.
#include "core/config/config.h"

#include "core/base/status_macros.h"
#include "core/config/checks.h"
#include "core/config/rl_checks.h"

namespace conclave::core {
namespace {

constexpr double kLargestBf16Beta = 0.99;
constexpr int64_t kMaxSteps = int64_t{1} << 40;
constexpr int64_t kMaxRows = 1 << 20;
constexpr int64_t kMaxTokens = (int64_t{1} << 31) - 1;  // of one step: indexes of tokens are 32-bit integers

absl::Status ValidateSource(const std::string& key, const SourceConfig& source, const std::vector<TaskConfig>& tasks) {
  const int given = !source.path.empty() + !source.synthetic.empty() + !source.task.empty();
  if (given != 1) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: %s of path, task and synthetic is given; give exactly one",
                                                      key, given == 0 ? "none" : "more than one"));
  }
  RETURN_IF_ERROR(ValidateTaskSource(key, source, tasks));
  RETURN_IF_ERROR(IsOneOf(key + ".synthetic", source.synthetic, {"", "uniform"}));
  if (!(source.weight > 0 && source.weight <= 1e9)) {
    return Refuse(key + ".weight", source.weight,
                  "is not a share: it must be above 0, at most 1e9; to drop a source, remove it");
  }
  if (source.field.empty()) return Refuse(key + ".field", source.field, "names no field of a JSONL line");
  return absl::OkStatus();
}

absl::Status ValidateSources(const std::string& key, const std::vector<SourceConfig>& sources,
                             const std::vector<TaskConfig>& tasks) {
  for (size_t i = 0; i < sources.size(); ++i) {
    RETURN_IF_ERROR(ValidateSource(absl::StrFormat("%s.%d", key, i), sources[i], tasks));
  }
  return absl::OkStatus();
}

absl::Status ValidateData(const Config& config) {
  const DataConfig& data = config.data;
  if (data.tokenizer.empty())
    return Refuse("data.tokenizer", data.tokenizer, "is empty; give auto, bytes, or a folder or file");
  const bool made =
      config.DrawsResponses() || config.stage == "distill" || (config.stage == "sft" && !config.sft.data.empty());
  if (data.train.empty() && !made) {
    return absl::InvalidArgumentError("data.train: no source of training text; give e.g. [{path: text.txt}]");
  }
  RETURN_IF_ERROR(ValidateSources("data.train", data.train, config.tasks));
  RETURN_IF_ERROR(ValidateSources("data.validation", data.validation, config.tasks));
  RETURN_IF_ERROR(ValidateSources("data.prompts", data.prompts, config.tasks));
  RETURN_IF_ERROR(IsOneOf("data.chat_template", data.chat_template,
                          {"auto", "deepseek_v3", "deepseek_r1", "chatml", "llama3", "bytes", "plain"}));
  RETURN_IF_ERROR(InRange("data.sequence_length", data.sequence_length, 1, kMaxRows));
  RETURN_IF_ERROR(InRange("data.validation_fraction", data.validation_fraction, 0, 0.5));
  if (data.validation_fraction > 0 && !data.validation.empty()) {
    return Refuse("data.validation_fraction", data.validation_fraction,
                  "has no effect beside data.validation; remove one of them");
  }
  return absl::OkStatus();
}

absl::Status ValidateBatch(const BatchConfig& batch, int64_t sequence_length) {
  RETURN_IF_ERROR(InRange("batch.sequences", batch.sequences, 1, kMaxRows));
  RETURN_IF_ERROR(InRange("batch.micro_sequences", batch.micro_sequences, 0, kMaxRows));
  if (batch.micro_sequences > batch.sequences) {
    return Refuse(
        "batch.micro_sequences", batch.micro_sequences,
        absl::StrFormat("is more than batch.sequences, %d; lower it, or give 0 for all rows at once", batch.sequences));
  }
  if (batch.sequences > kMaxTokens / sequence_length) {
    return Refuse(
        "batch.sequences", batch.sequences,
        absl::StrFormat("rows of data.sequence_length %d are more than 2^31 tokens per step", sequence_length));
  }
  RETURN_IF_ERROR(InRange("batch.ramp.start", batch.ramp.start, 0, batch.sequences));
  RETURN_IF_ERROR(InRange("batch.ramp.steps", batch.ramp.steps, 0, kMaxSteps));
  if ((batch.ramp.start > 0) != (batch.ramp.steps > 0)) {
    return Refuse(
        "batch.ramp.start", batch.ramp.start,
        absl::StrFormat("and batch.ramp.steps %d: a ramp needs both above 0, no ramp neither", batch.ramp.steps));
  }
  return absl::OkStatus();
}

absl::Status ValidateSchedule(const ScheduleConfig& schedule) {
  RETURN_IF_ERROR(
      IsOneOf("optim.schedule.name", schedule.name, {"constant", "linear", "cosine", "wsd", "deepseek_v3"}));
  RETURN_IF_ERROR(InRange("optim.schedule.warmup_steps", schedule.warmup_steps, 0, kMaxSteps));
  RETURN_IF_ERROR(InRange("optim.schedule.final_factor", schedule.final_factor, 0.0, 1.0));
  const bool has_plateau = schedule.name == "wsd" || schedule.name == "deepseek_v3";
  const bool has_tail = schedule.name == "deepseek_v3";
  const struct {
    const char* key;
    int64_t value;
    bool used;
  } steps[] = {{"optim.schedule.constant_steps", schedule.constant_steps, has_plateau},
               {"optim.schedule.decay_steps", schedule.decay_steps, has_plateau},
               {"optim.schedule.tail_steps", schedule.tail_steps, has_tail}};
  for (const auto& [key, value, used] : steps) {
    RETURN_IF_ERROR(InRange(key, value, 0, kMaxSteps));
    if (value > 0 && !used) {
      return Refuse(key, value, "has no effect with the schedule " + schedule.name + "; remove it");
    }
  }
  RETURN_IF_ERROR(InRange("optim.schedule.tail_factor", schedule.tail_factor, 0.0, 1.0));
  if (schedule.tail_factor > 0 && !has_tail) {
    return Refuse("optim.schedule.tail_factor", schedule.tail_factor,
                  "has no effect with the schedule " + schedule.name + "; remove it");
  }
  return absl::OkStatus();
}

// bf16 has steps of up to 2^-7: a slower decay than that would round away, and moments would only ever grow.
absl::Status ValidateMoments(const OptimConfig& optim) {
  RETURN_IF_ERROR(IsOneOf("optim.moments", optim.moments, {"f32", "bf16"}));
  for (const double beta : optim.betas) {
    if (optim.moments == "bf16" && beta > kLargestBf16Beta) {
      return Refuse(
          "optim.moments", optim.moments,
          absl::StrFormat("cannot hold moments that decay as slowly as optim.betas says, %g: give f32, or betas "
                          "of at most %g",
                          beta, kLargestBf16Beta));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateOptim(const OptimConfig& optim) {
  RETURN_IF_ERROR(IsOneOf("optim.name", optim.name, {"adamw"}));
  RETURN_IF_ERROR(InRange("optim.lr", optim.lr, 0.0, 1e3));
  if (optim.betas.size() != 2) return Refuse("optim.betas", optim.betas, "must be two numbers, such as [0.9, 0.95]");
  RETURN_IF_ERROR(IsDecay("optim.betas.0", optim.betas[0]));
  RETURN_IF_ERROR(IsDecay("optim.betas.1", optim.betas[1]));
  if (!(optim.eps > 0 && optim.eps <= 1)) {
    return Refuse("optim.eps", optim.eps,
                  "must be above 0, at most 1: it keeps the update finite where gradients are zero");
  }
  RETURN_IF_ERROR(InRange("optim.weight_decay", optim.weight_decay, 0.0, 1e3));
  RETURN_IF_ERROR(InRange("optim.clip", optim.clip, 0.0, 1e30));
  RETURN_IF_ERROR(IsDecay("optim.ema", optim.ema));
  RETURN_IF_ERROR(InRange("optim.z_loss", optim.z_loss, 0.0, 1e3));
  RETURN_IF_ERROR(ValidateMoments(optim));
  return ValidateSchedule(optim.schedule);
}

absl::Status ValidateMoe(const MoeTrainConfig& moe) {
  RETURN_IF_ERROR(InRange("moe.bias_update_speed", moe.bias_update_speed, 0.0, 1e3));
  RETURN_IF_ERROR(InRange("moe.balance_loss", moe.balance_loss, 0.0, 1e3));
  return InRange("moe.mtp_weight", moe.mtp_weight, 0.0, 1e3);
}

absl::Status ValidateParallel(const ParallelConfig& parallel) {
  constexpr int64_t kMaxRanks = 1 << 20;
  RETURN_IF_ERROR(InRange("parallel.pipeline", parallel.pipeline, 1, kMaxRanks));
  RETURN_IF_ERROR(InRange("parallel.expert", parallel.expert, 1, kMaxRanks));
  RETURN_IF_ERROR(IsOneOf("parallel.schedule", parallel.schedule,
                          {"", "1f1b", "interleaved", "zb1p", "zbv", "dualpipe", "dualpipev"}));
  RETURN_IF_ERROR(InRange("parallel.virtual_stages", parallel.virtual_stages, 1, kMaxRanks));
  RETURN_IF_ERROR(InRange("parallel.zero", parallel.zero, 1, 2));
  return InRange("parallel.ranks_per_node", parallel.ranks_per_node, 0, kMaxRanks);
}

absl::Status ValidateTrain(const TrainConfig& train) {
  RETURN_IF_ERROR(InRange("train.steps", train.steps, 1, kMaxSteps));
  RETURN_IF_ERROR(InRange("train.seed", train.seed, 0, INT64_MAX));
  RETURN_IF_ERROR(InRange("train.validate_every", train.validate_every, 0, kMaxSteps));
  RETURN_IF_ERROR(InRange("train.checkpoint_every", train.checkpoint_every, 0, kMaxSteps));
  RETURN_IF_ERROR(InRange("train.keep", train.keep, 1, kMaxSteps));
  return InRange("train.init_std", train.init_std, 0.0, 10.0);
}

// The model against the rest; a model that a folder decides is checked when it is read.
absl::Status ValidateModel(const Config& config) {
  if (!config.model.from.empty()) return absl::OkStatus();
  RETURN_IF_ERROR(Validate(config.model));
  if (config.ComputePrecision() == Precision::kBf16) RETURN_IF_ERROR(ValidateForBf16(config.model));
  // Rows of rollouts hold several responses, each with positions of its own.
  const bool rollouts = config.DrawsResponses();
  const int64_t positions =
      rollouts ? config.data.max_prompt_tokens + config.rollout.max_tokens : config.data.sequence_length;
  if (positions > config.model.max_position_embeddings) {
    return Refuse(
        rollouts ? "rollout.max_tokens" : "data.sequence_length",
        rollouts ? config.rollout.max_tokens : config.data.sequence_length,
        absl::StrFormat("%s more than model.max_position_embeddings, %d",
                        rollouts ? "and data.max_prompt_tokens are" : "is", config.model.max_position_embeddings));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const Config& config) {
  RETURN_IF_ERROR(IsOneOf("stage", config.stage, {"pretrain", "sft", "grpo", "reject", "distill"}));
  RETURN_IF_ERROR(IsOneOf("precision", config.precision, {"f32", "bf16"}));
  RETURN_IF_ERROR(ValidateTasks(config.tasks));
  RETURN_IF_ERROR(ValidateData(config));
  if (config.stage != "pretrain") RETURN_IF_ERROR(ValidateFineTuning(config));
  RETURN_IF_ERROR(ValidateModel(config));
  if (config.TrainsOnRollouts()) {  // rows follow from rollouts
    RETURN_IF_ERROR(InRange("batch.micro_sequences", config.batch.micro_sequences, 0, kMaxRows));
  } else {
    RETURN_IF_ERROR(ValidateBatch(config.batch, config.data.sequence_length));
  }
  RETURN_IF_ERROR(ValidateOptim(config.optim));
  RETURN_IF_ERROR(ValidateMoe(config.moe));
  RETURN_IF_ERROR(ValidateParallel(config.parallel));
  RETURN_IF_ERROR(ValidateTrain(config.train));
  RETURN_IF_ERROR(IsOneOf("checkpoint.weights", config.checkpoint.weights, {"", "f32", "bf16"}));
  if (config.run.dir.empty()) return Refuse("run.dir", config.run.dir, "is empty; name the folder of the run");
  return absl::OkStatus();
}

}  // namespace conclave::core
