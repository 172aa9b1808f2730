// SPDX-License-Identifier: Apache-2.0
// The typed tree of all options of a run. Each struct lists its fields once (core/base/fields.h): the strict YAML
// reader, the writer, a.b=c overrides, `conclave help KEY` and the reference page come from that list.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "core/config/model_config.h"
#include "core/config/rl_config.h"

namespace conclave::core {

struct SourceConfig {
  std::string path;  // a file, folder or glob pattern: text, JSONL (plain, .gz, .zst), or a Megatron .bin/.idx pair
  std::string field = "text";
  double weight = 1.0;
  std::string synthetic;  // "uniform": random tokens instead of a file
  std::string task;       // one of Config::tasks instead of a file
  std::string split = "train";
  int64_t count = 0;
  double worked = 0.25;
  std::string prompt_field, answer_field, answer_after;

  template <class V>
  void VisitFields(V& v) {
    v.Field("path", path, "path",
            "text or .jsonl (plain, .gz, .zst), a folder of these, a pattern (d/*.txt), or a .bin/.idx pair");
    v.Field("field", field, "", "JSONL: the field that holds the text; a line without it may be a chat, in `messages`");
    v.Field("weight", weight, "share", "share of this source in the blend, relative to the others");
    v.Field("synthetic", synthetic, "", "uniform = random tokens instead of a file, for benchmarks");
    v.Field("task", task, "", "name of one of `tasks`: problems that are made as they are needed");
    v.Field("split", split, "", "task: train | held_out; no problem is in both");
    v.Field("count", count, "problems", "task: how many; 0 = as many as there are, for prompts without end");
    v.Field("worked", worked, "share", "task, in pretraining: documents that show a worked solution before the answer");
    v.Field("prompt_field", prompt_field, "",
            "prompts: field of the problem; empty: found (GSM8K's question, MATH's problem, prompt)");
    v.Field("answer_field", answer_field, "", "prompts: field of the right answer; empty: answer");
    v.Field("answer_after", answer_after, "",
            "prompts: the answer is what follows this text in its field; empty: #### in GSM8K, else all of it. "
            "Fine-tuning: what stands before it is thinking, what follows the answer; empty: a response as it is");
  }
};

struct DataConfig {
  std::string tokenizer = "auto";
  std::vector<SourceConfig> train, validation;
  int64_t sequence_length = 256;
  double validation_fraction = 0;
  bool mask_documents = false;
  std::string cache;
  std::string chat_template = "auto";
  std::string system;
  int64_t max_prompt_tokens = 256;
  std::string long_prompts = "refuse";
  std::vector<SourceConfig> prompts;

  template <class V>
  void VisitFields(V& v) {
    v.Field(
        "tokenizer", tokenizer, "path",
        "bytes (built in, 265 ids), or a folder or file with a tokenizer.json or a tiktoken vocabulary; auto = that of "
        "model.from, else bytes");
    v.Field("train", train, "", "sources of the training text");
    v.Field("validation", validation, "", "sources of the validation text");
    v.Field("sequence_length", sequence_length, "tokens", "tokens per row");
    v.Field("validation_fraction", validation_fraction, "share",
            "share of the training rows held out for validation when no validation source is given, 0 to 0.5");
    v.Field("mask_documents", mask_documents, "", "true: attention and labels stop at document borders inside a row");
    v.Field("cache", cache, "path",
            "folder of tokenized text; default: $XDG_CACHE_HOME/conclave/tokens or ~/.cache/conclave/tokens");
    v.Field("chat_template", chat_template, "",
            "of chats: auto (what the tokenizer brings) | deepseek_v3 | deepseek_r1 | chatml | llama3 | bytes | plain");
    v.Field("system", system, "", "text of the system message of prompts; empty = none");
    v.Field("max_prompt_tokens", max_prompt_tokens, "tokens", "of a rendered prompt");
    v.Field(
        "long_prompts", long_prompts, "",
        "refuse | drop: what happens to longer ones, and to samples longer than a row in stage sft; drops are counted");
    v.Field("prompts", prompts, "", "grpo: sources of problems with answers; empty: the train split of `tasks`");
  }
};

struct BatchRampConfig {
  int64_t start = 0;
  int64_t steps = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("start", start, "rows", "sequences per step at step 1; 0 = no ramp");
    v.Field("steps", steps, "steps",
            "steps over which the batch grows linearly to batch.sequences, in whole micro-batches");
  }
};

struct BatchConfig {
  int64_t sequences = 8;
  int64_t micro_sequences = 0;
  BatchRampConfig ramp;

  template <class V>
  void VisitFields(V& v) {
    v.Field("sequences", sequences, "rows", "rows per optimizer step, over all ranks");
    v.Field(
        "micro_sequences", micro_sequences, "rows",
        "rows per micro-batch; 0 = as many as make 8,192 tokens, or fewer where the schedule needs more micro-batches. "
        "Never changes a bit while exact is true");
    v.Field("ramp", ramp, "", "grows the batch at the start of a run");
  }
};

struct ParallelConfig {
  int64_t pipeline = 1;
  int64_t expert = 1;
  std::string schedule;
  int64_t virtual_stages = 2;
  int64_t zero = 1;
  bool overlap = true;
  bool balance_experts = true;
  int64_t ranks_per_node = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("pipeline", pipeline, "ranks", "ranks that share the layers; data ranks are what the job has beside them");
    v.Field("expert", expert, "ranks", "ranks that share the experts: a cut of the data ranks");
    v.Field("schedule", schedule, "",
            "1f1b | interleaved | zb1p | zbv | dualpipe | dualpipev; default dualpipev with several pipeline ranks");
    v.Field("virtual_stages", virtual_stages, "stages", "stages per pipeline rank, with schedule interleaved");
    v.Field("zero", zero, "",
            "what is cut over data ranks: 1 = moments; 2 = gradients of blocks, too: less memory, a reduction for each "
            "micro-batch. Never changes a bit");
    v.Field("overlap", overlap, "",
            "true: exchanges of a micro-batch run behind compute of another. Never changes a bit while exact is true");
    v.Field(
        "balance_experts", balance_experts, "",
        "true: after a checkpoint, experts move to other ranks if their measured load is better balanced there. Never "
        "changes a bit");
    v.Field("ranks_per_node", ranks_per_node, "ranks",
            "neighbouring ranks that tokens reach in a second hop; 0 = those on one host");
  }
};

struct ScheduleConfig {
  std::string name = "constant";
  int64_t warmup_steps = 0;
  double final_factor = 0.1;
  int64_t constant_steps = 0, decay_steps = 0;
  int64_t tail_steps = 0;
  double tail_factor = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("name", name, "", "constant | linear | cosine | wsd | deepseek_v3; all start with warmup_steps");
    v.Field("warmup_steps", warmup_steps, "steps", "steps of linear growth from 0 to optim.lr");
    v.Field("final_factor", final_factor, "share", "lr at the end of the decay / optim.lr");
    v.Field("constant_steps", constant_steps, "steps",
            "wsd, deepseek_v3: steps at optim.lr after the warm-up; 0 = what is left over");
    v.Field("decay_steps", decay_steps, "steps",
            "wsd, deepseek_v3: steps of the decay (linear in wsd, cosine in deepseek_v3); 0 = a tenth of the run");
    v.Field("tail_steps", tail_steps, "steps", "deepseek_v3: last steps of the run, at tail_factor");
    v.Field("tail_factor", tail_factor, "share",
            "deepseek_v3: lr of the last tail_steps / optim.lr (released run: 7.3e-6 / 2.2e-4)");
  }
};

struct OptimConfig {
  std::string name = "adamw";
  double lr = 1e-3;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip = 1.0;
  double ema = 0;
  double z_loss = 0;
  std::string moments = "f32";
  ScheduleConfig schedule;

  template <class V>
  void VisitFields(V& v) {
    v.Field("name", name, "", "adamw");
    v.Field("lr", lr, "", "peak learning rate");
    v.Field("betas", betas, "share", "decay of the first and the second moment: what a step keeps of them");
    v.Field("eps", eps, "", "added to the root of the second moment");
    v.Field("weight_decay", weight_decay, "", "decoupled decay, on matrices only (not on norms, biases)");
    v.Field("clip", clip, "", "largest gradient norm; 0 = no clipping");
    v.Field("ema", ema, "share", "decay of the moving average of the weights, e.g. 0.999; 0 = none");
    v.Field("z_loss", z_loss, "", "weight of the squared log-partition of the final logits");
    v.Field("moments", moments, "", "f32 | bf16: type in which the moments are kept; bf16 halves their memory");
    v.Field("schedule", schedule, "", "learning rate over the steps");
  }
};

struct MoeTrainConfig {
  double bias_update_speed = 1e-3;
  double balance_loss = 1e-4;
  double mtp_weight = 0.3;

  template <class V>
  void VisitFields(V& v) {
    v.Field("bias_update_speed", bias_update_speed, "",
            "step of the router bias after each optimizer step (DeepSeek-V3: 1e-3)");
    v.Field("balance_loss", balance_loss, "", "weight of the sequence-wise balance loss (DeepSeek-V3: 1e-4)");
    v.Field("mtp_weight", mtp_weight, "",
            "weight of the multi-token-prediction loss, divided by its depth (DeepSeek-V3: 0.3, later 0.1)");
  }
};

struct TrainConfig {
  int64_t steps = 100;
  int64_t seed = 1;
  int64_t validate_every = 0;
  int64_t checkpoint_every = 0;
  int64_t keep = 3;
  double init_std = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("steps", steps, "steps", "optimizer steps of the whole run");
    v.Field("seed", seed, "", "changes everything that is drawn: initialization, data order");
    v.Field("validate_every", validate_every, "steps", "steps between validations; 0 = only at the end");
    v.Field("checkpoint_every", checkpoint_every, "steps", "steps between checkpoints; 0 = only at the end");
    v.Field("keep", keep, "checkpoints", "checkpoints kept; older ones go after a newer one has been verified");
    v.Field("init_std", init_std, "", "standard deviation of the initial matrices; 0 = model.initializer_range");
  }
};

struct CheckpointConfig {
  std::string weights;

  template <class V>
  void VisitFields(V& v) {
    v.Field("weights", weights, "", "f32 | bf16: type of the model files; default f32 for precision f32, else bf16");
  }
};

struct RunConfig {
  std::string dir = "runs/default";

  template <class V>
  void VisitFields(V& v) {
    v.Field("dir", dir, "path", "folder of the run: config, metrics, checkpoints");
  }
};

enum class Precision { kF32, kBf16 };

struct Config {
  std::string stage = "pretrain";
  ModelConfig model;
  std::vector<TaskConfig> tasks;
  DataConfig data;
  SftConfig sft;
  RolloutConfig rollout;
  std::vector<RewardConfig> reward;
  GrpoConfig grpo;
  RejectConfig reject;
  std::string teacher;
  DistillConfig distill;
  EvaluationConfig eval;
  BatchConfig batch;
  OptimConfig optim;
  MoeTrainConfig moe;
  ParallelConfig parallel;
  std::string precision = "f32";
  bool exact = true;
  TrainConfig train;
  CheckpointConfig checkpoint;
  RunConfig run;

  template <class V>
  void VisitFields(V& v) {
    v.Field("stage", stage, "",
            "pretrain | sft (on answers) | grpo (reinforcement learning) | reject (rejection sampling: writes verified "
            "answers, trains nothing) | distill (a student learns from a teacher: its verified answers, or its "
            "distributions)");
    v.Field("model", model, "", "architecture with the names of a Hugging Face config.json, or {from: FOLDER}");
    v.Field("tasks", tasks, "", "problems with answers and worked solutions, made by the program; one, or a list");
    v.Field("data", data, "", "text in, rows of tokens out");
    v.Field("sft", sft, "", "stage sft: samples and their loss");
    v.Field("rollout", rollout, "", "stages grpo, reject and distill: how responses are drawn");
    v.Field("reward", reward, "", "stages grpo, reject and distill: what a response is worth; weights combine several");
    v.Field("grpo", grpo, "", "stage grpo: the policy loss");
    v.Field("reject", reject, "", "stage reject: which samples go into run.dir/data/reject.jsonl");
    v.Field("teacher", teacher, "path",
            "stage distill: model or run folder of the teacher, of any architecture, with the student's tokenizer");
    v.Field(
        "distill", distill, "",
        "stage distill: what is learned from the teacher, on whose responses; and which of the teacher's samples go "
        "into run.dir/data/teacher.jsonl");
    v.Field("eval", eval, "",
            "stages sft, grpo and distill: held-out problems solved, every train.validate_every steps");
    v.Field("batch", batch, "", "rows per step");
    v.Field("optim", optim, "", "optimizer and schedule");
    v.Field("moe", moe, "", "balancing of experts and multi-token prediction during training");
    v.Field("parallel", parallel, "", "how a run is laid out over ranks. Never changes a bit while exact is true");
    v.Field("precision", precision, "", "f32 | bf16: type of activations and products; masters and sums are f32");
    v.Field("exact", exact, "",
            "true: bits do not depend on the layout; false: gradients are summed as floats and tokens' rows on the way "
            "home: less memory and traffic");
    v.Field("train", train, "", "length of the run, seeds, intervals");
    v.Field("checkpoint", checkpoint, "", "what checkpoints hold");
    v.Field("run", run, "", "where the run lives");
  }

  // Whether each step draws responses of the model that it trains.
  bool TrainsOnRollouts() const { return stage == "grpo" || (stage == "distill" && distill.source == "student"); }
  // Whether updates of a step send tokens to the experts that the weights before the first one choose.
  bool ReplaysRouter() const { return stage == "grpo" && grpo.router_replay; }
  // Whether the model of the config answers prompts to do what the stage is for.
  bool DrawsResponses() const { return TrainsOnRollouts() || stage == "reject"; }
  // Whether a teacher's distributions are learned, so that its model runs beside the student.
  bool LearnsDistributions() const { return stage == "distill" && distill.loss != "samples"; }
  Precision ComputePrecision() const { return precision == "bf16" ? Precision::kBf16 : Precision::kF32; }
};

// Rules across fields and ranges of single ones. The message starts with the key path: "batch.sequences: 0 is ...".
absl::Status Validate(const Config& config);

}  // namespace conclave::core
