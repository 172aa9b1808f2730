// SPDX-License-Identifier: Apache-2.0
// Options of supervised fine-tuning and reinforcement learning: tasks, rollouts, rewards, the policy loss, evaluation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace conclave::core {

struct TaskConfig {
  std::string name;
  int64_t digits = 3;
  int64_t terms = 2;
  std::string operators = "+";
  int64_t level = 1;
  double held_out = 0.1;

  template <class V>
  void VisitFields(V& v) {
    v.Field("name", name, "", "addition | arithmetic | countdown | linear_equation | sorting | word_problem");
    v.Field("digits", digits, "digits", "of each number, at most");
    v.Field("terms", terms, "", "arithmetic, countdown, sorting: numbers in a problem");
    v.Field("operators", operators, "", "arithmetic, countdown: of + - * /");
    v.Field("level", level, "", "difficulty, 1 is the easiest; what it means is the task's");
    v.Field("held_out", held_out, "share", "of all problems, chosen by the hash of their text: never in training");
  }
};

struct RolloutConfig {
  int64_t prompts = 128;
  int64_t group = 4;
  int64_t max_tokens = 256;
  double temperature = 1;
  double top_p = 1;
  int64_t top_k = 0;
  double min_p = 0;
  std::vector<std::string> stop;
  std::string cache = "expanded";
  bool ignore_eos = false;
  int64_t decode_batch = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("prompts", prompts, "prompts", "drawn per step, over all ranks");
    v.Field("group", group, "samples", "of each prompt: what an advantage is relative to");
    v.Field("max_tokens", max_tokens, "tokens", "of a response at most, its end token included");
    v.Field("temperature", temperature, "", "logits are divided by it, in the sampler and in the loss; 0 is greedy");
    v.Field("top_p", top_p, "share", "draw from the likeliest tokens that have this much of the probability; 1 = all");
    v.Field("top_k", top_k, "tokens", "draw from the k likeliest tokens; 0 = all");
    v.Field("min_p", min_p, "share", "draw from tokens with at least this share of the likeliest one's probability");
    v.Field("stop", stop, "", "texts that end a response");
    v.Field("cache", cache, "",
            "expanded: keys and values as the trainer computes them, log-probabilities are the trainer's to the bit; "
            "latent: what they are expanded from (multi-head latent attention), many times smaller, log-probabilities "
            "are computed anew by the trainer");
    v.Field("ignore_eos", ignore_eos, "", "true: the end token ends nothing; for benchmarks");
    v.Field("decode_batch", decode_batch, "samples",
            "decoded side by side on a rank; 0 = up to 256. Never changes a bit");
  }
};

struct RewardConfig {
  std::string name;
  double weight = 1;
  std::string fallback = "none";
  std::vector<std::string> command;
  double timeout_seconds = 10;
  int64_t memory_mib = 512;
  std::string on_error = "mask";
  double max_failed = 0.5;
  int64_t target_tokens = 0;
  int64_t buffer_tokens = 0;
  std::string language = "en";

  template <class V>
  void VisitFields(V& v) {
    v.Field("name", name, "",
            "math | exact | numeric | format | language | length | overlong | repetition | random | program");
    v.Field("weight", weight, "", "factor in the sum of all rewards");
    v.Field("fallback", fallback, "",
            "none | last_number: what is the answer of a response without <answer> and \\boxed{}");
    v.Field("command", command, "", "program: its path and arguments; reads and writes JSON lines, once per batch");
    v.Field("timeout_seconds", timeout_seconds, "s", "program: time for a batch; then it is killed");
    v.Field("memory_mib", memory_mib, "MiB", "program: address space");
    v.Field("on_error", on_error, "",
            "program: mask = a group with a response it failed on is left out; zero = such a response scores 0");
    v.Field("max_failed", max_failed, "share", "program: of the responses of a step; more ends the run");
    v.Field("target_tokens", target_tokens, "tokens", "length: from here on a response scores less");
    v.Field("buffer_tokens", buffer_tokens, "tokens",
            "overlong: the last so many tokens before rollout.max_tokens cost up to 1 (DAPO's soft punishment)");
    v.Field("language", language, "", "language: en | zh | ru | ..., whose script the thoughts should be in");
  }
};

struct AdvantageConfig {
  std::string baseline = "group";
  std::string std = "sample";
  double eps = 1e-4;

  template <class V>
  void VisitFields(V& v) {
    v.Field("baseline", baseline, "",
            "group: mean of the prompt's rewards; leave_one_out: of the others; batch: of all; none");
    v.Field("std", std, "",
            "what is divided by: sample (n - 1) or population (n) deviation of the group; batch: of all; none");
    v.Field("eps", eps, "", "added to the deviation");
  }
};

struct ClipConfig {
  double low = 0.2;
  double high = 0.2;
  std::optional<double> dual;
  std::optional<double> cap;

  template <class V>
  void VisitFields(V& v) {
    v.Field("low", low, "", "the ratio counts from 1 - low on");
    v.Field("high", high, "", "and up to 1 + high");
    v.Field("dual", dual, "", "where the advantage is negative, the ratio counts up to this; null = no bound");
    v.Field("cap", cap, "", "CISPO: the ratio is a weight, at most this, and no token is dropped; null = off");
  }
};

struct KlConfig {
  double coefficient = 0;
  std::string estimator = "k3";
  std::string place = "loss";
  int64_t refresh = 0;

  template <class V>
  void VisitFields(V& v) {
    v.Field("coefficient", coefficient, "", "weight of the divergence from the reference model; 0 = no such model");
    v.Field("estimator", estimator, "", "k1 | k2 | k3 (Schulman)");
    v.Field("place", place, "", "loss | reward: where it is subtracted");
    v.Field("refresh", refresh, "steps", "after which the reference model becomes the present one; 0 = never");
  }
};

struct OffPolicyConfig {
  int64_t max_age = 0;
  std::string correction = "none";
  double cap = 2;

  template <class V>
  void VisitFields(V& v) {
    v.Field("max_age", max_age, "steps", "samples may be drawn with weights that are so many steps old; 0 = on-policy");
    v.Field("correction", correction, "",
            "none | truncate: samples weigh min(probability when updated / when drawn, cap) by token");
    v.Field("cap", cap, "", "largest such weight");
  }
};

struct DynamicSamplingConfig {
  bool enabled = false;
  int64_t max_rounds = 4;

  template <class V>
  void VisitFields(V& v) {
    v.Field("enabled", enabled, "", "true: groups whose rewards are all equal are replaced by new prompts (DAPO)");
    v.Field("max_rounds", max_rounds, "", "rollouts per step at most; then the step goes on with what it has");
  }
};

struct GrpoConfig {
  std::string preset = "grpo";
  int64_t minibatches = 1;
  int64_t passes = 1;
  std::string aggregate = "sequence";
  std::string ratio = "token";
  AdvantageConfig advantage;
  ClipConfig clip;
  KlConfig kl;
  OffPolicyConfig off_policy;
  DynamicSamplingConfig dynamic_sampling;
  std::string truncated = "score";
  bool router_replay = false;

  template <class V>
  void VisitFields(V& v) {
    v.Field("preset", preset, "",
            "grpo | dapo | dr_grpo | gspo | cispo | rloo | reinforce_pp: values of the keys below that are not given");
    v.Field("minibatches", minibatches, "", "optimizer steps per rollout and pass");
    v.Field("passes", passes, "", "over the samples of a rollout");
    v.Field("aggregate", aggregate, "",
            "token: mean over all tokens; sequence: mean over responses of means over their tokens; constant: sum over "
            "tokens / (responses x rollout.max_tokens)");
    v.Field("ratio", ratio, "", "token | sequence: of probabilities now and when drawn");
    v.Field("advantage", advantage, "", "from rewards to advantages");
    v.Field("clip", clip, "", "bounds of the ratio");
    v.Field("kl", kl, "", "divergence from a reference model: the one that the run began with");
    v.Field("off_policy", off_policy, "", "samples that are older than the weights");
    v.Field("dynamic_sampling", dynamic_sampling, "", "groups without a signal");
    v.Field("truncated", truncated, "",
            "score | mask: responses cut at rollout.max_tokens are scored, or left out of the loss");
    v.Field("router_replay", router_replay, "",
            "true: all updates of a step send each token to the experts that the weights before the first one choose, "
            "so that ratios change by weights, not by jumps between experts");
  }
};

struct SftConfig {
  std::string data;
  int64_t count = 100;
  std::string loss = "answers";

  template <class V>
  void VisitFields(V& v) {
    v.Field("data", data, "",
            "demos = worked solutions of `tasks`; empty: chats or prompt/response lines of data.train");
    v.Field("count", count, "samples", "demos: how many there are");
    v.Field("loss", loss, "", "answers: on all turns of the assistant; last: on the final one; all: on every token");
  }
};

struct RejectConfig {
  int64_t prompts = 4096;
  int64_t samples = 4;
  int64_t keep = 1;

  template <class V>
  void VisitFields(V& v) {
    v.Field("prompts", prompts, "prompts", "drawn in all, rollout.prompts of them at a time");
    v.Field("samples", samples, "samples", "of each prompt");
    v.Field("keep", keep, "samples",
            "of each prompt at most: those that the first reward finds right and that ended by themselves, the "
            "shortest first, no text twice");
  }
};

struct DistillConfig : RejectConfig {
  std::string loss = "samples";
  std::string source = "teacher";
  double temperature = 1;

  template <class V>
  void VisitFields(V& v) {
    v.Field(
        "loss", loss, "",
        "samples: cross entropy of the teacher's samples; forward_kl, reverse_kl: KL(teacher || student), KL(student "
        "|| teacher) of the whole distribution at each token of a response");
    v.Field("source", source, "",
            "whose responses are learned from: teacher (verified samples, drawn before training) | student (drawn with "
            "its present weights, rollout.prompts x rollout.group in each step; the teacher judges each token)");
    v.Field(
        "temperature", temperature, "",
        "logits of both models are divided by it in the divergence; with source: student it is rollout.temperature");
    RejectConfig::VisitFields(v);
  }
};

struct EvaluationConfig {
  int64_t prompts = 256;
  int64_t samples = 1;
  double temperature = 1;

  template <class V>
  void VisitFields(V& v) {
    v.Field("prompts", prompts, "prompts", "of data.validation, the same ones each time");
    v.Field("samples", samples, "samples", "of each prompt");
    v.Field("temperature", temperature, "", "of these samples; 0 is greedy");
  }
};

}  // namespace conclave::core
