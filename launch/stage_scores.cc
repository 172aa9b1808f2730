// SPDX-License-Identifier: Apache-2.0
#include "launch/stage_scores.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/hash.h"
#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/config/yaml.h"
#include "data/prompts.h"
#include "launch/banner.h"
#include "launch/metrics.h"
#include "launch/problem_evaluation.h"
#include "launch/ranks.h"
#include "launch/run_parts.h"

namespace conclave::launch {
namespace {

constexpr int64_t kSamples = 8;
constexpr int64_t kMaxScoresBytes = 1 << 26;  // samples are as long as the model likes

struct NamedEstimate {
  const char* name;
  rl::Estimate StageScores::*estimate;
};
constexpr NamedEstimate kEstimates[] = {{"pass_at_1", &StageScores::pass_at_1},
                                        {"pass_at_8", &StageScores::pass_at_8},
                                        {"majority", &StageScores::majority},
                                        {"length", &StageScores::length},
                                        {"greedy", &StageScores::greedy}};

std::string PathOf(const core::Config& config) { return config.run.dir + "/evaluation.json"; }

// The held-out splits of tasks, and files beside prompts in files: in other stages these hold text.
std::vector<core::SourceConfig> HeldOutProblems(const core::Config& stage) {
  std::vector<core::SourceConfig> problems;
  for (const core::TaskConfig& task : stage.tasks) {
    core::SourceConfig& source = problems.emplace_back();
    source.task = task.name;
    source.split = "held_out";
  }
  if (stage.data.prompts.empty()) return problems;
  std::copy_if(stage.data.validation.begin(), stage.data.validation.end(), std::back_inserter(problems),
               [](const core::SourceConfig& source) { return !source.path.empty(); });
  return problems;
}

// The stage's config with what decides an evaluation alone: its model, all held-out problems, and `math` as the judge
// whatever the stage was rewarded for.
core::Config EvaluationConfig(const core::Config& stage) {
  core::Config config = stage;
  if (config.stage == "pretrain") config.stage = "sft";  // whose model has room for prompts and responses
  config.model = {};
  config.model.from = stage.run.dir;
  config.data.validation = HeldOutProblems(stage);
  config.reward.clear();
  config.eval.samples = kSamples;
  return config;
}

// A hash over what decides the scores: settings, and the step of the newest checkpoint.
absl::StatusOr<std::string> SettingsOf(const core::Config& stage) {
  const core::Config evaluation = EvaluationConfig(stage);
  core::Config config;
  config.tasks = evaluation.tasks;
  config.data = evaluation.data;
  config.data.train.clear();
  config.data.prompts.clear();
  config.data.cache.clear();
  config.rollout = evaluation.rollout;
  config.rollout.decode_batch = 0;
  config.eval = evaluation.eval;
  config.precision = evaluation.precision;
  ASSIGN_OR_RETURN(const auto steps, core::ListSteps(stage.run.dir + "/checkpoints"));
  const std::string text =
      absl::StrFormat("%sstep %d", core::WriteConfig(config), steps.empty() ? 0 : steps.front().first);
  core::Hasher hasher;
  hasher.Update(text.data(), text.size());
  return hasher.HexDigest();
}

std::string ToJson(const StageScores& scores, const std::string& settings) {
  JsonLine line;
  line.Add("settings", settings);
  for (const auto& [name, estimate] : kEstimates) {
    line.Add(name, (scores.*estimate).mean);
    line.Add(absl::StrFormat("%s_stderr", name), (scores.*estimate).error);
  }
  line.AddJson("samples", SamplesJson(scores.samples));
  return line.Take();
}

// Nothing if it was made with other settings, or is not whole.
std::optional<StageScores> FromJson(const std::string& text, const std::string& path, const std::string& settings) {
  const auto json = core::ParseJson(text, {.name = path}, {});
  if (!json.ok() || !json->is_object() || json->value("settings", nlohmann::json()) != settings) return std::nullopt;
  StageScores scores;
  for (const auto& [name, estimate] : kEstimates) {
    const auto mean = json->find(name), error = json->find(absl::StrFormat("%s_stderr", name));
    if (mean == json->end() || error == json->end() || !mean->is_number() || !error->is_number()) return std::nullopt;
    scores.*estimate = {mean->get<double>(), error->get<double>()};
  }
  auto samples = SamplesFromJson(json->value("samples", nlohmann::json()));
  if (!samples.ok()) return std::nullopt;
  scores.samples = *std::move(samples);
  return scores;
}

absl::StatusOr<StageScores> Measure(core::Config config, int threads, parallel::Job& job) {
  RunParts parts;
  RETURN_IF_ERROR(job.AgreeOn(LoadTokenizerAndModelConfig(config, parts)));
  RETURN_IF_ERROR(job.AgreeOn(CheckPositions(config, parts.model_config)));
  RETURN_IF_ERROR(CreateLayoutAndDevice(config, threads, job, parts));
  const data::PromptContext context{config.data, config.tasks, *parts.tokenizer};
  const auto problems = data::ReadValidationPrompts(context, config.eval.prompts);
  RETURN_IF_ERROR(job.AgreeOn(problems.status()));
  ASSIGN_OR_RETURN(parts.model, CreateFrozenModel(config, job, parts));
  StageScores scores;
  const auto evaluate = [&](const core::Config& how) -> absl::StatusOr<rl::Evaluation> {
    ASSIGN_OR_RETURN(const auto evaluation,
                     ProblemEvaluation::Create(how, *parts.tokenizer, *problems, *parts.model, *parts.layout));
    ASSIGN_OR_RETURN(const rl::Evaluation result, evaluation->Run());
    if (scores.samples.empty()) scores.samples = FirstSamples(evaluation->problems(), evaluation->groups());
    return result;
  };
  ASSIGN_OR_RETURN(const rl::Evaluation sampled, evaluate(config));
  config.eval.samples = 1;
  config.eval.temperature = 0;
  ASSIGN_OR_RETURN(const rl::Evaluation greedy, evaluate(config));
  scores.pass_at_1 = sampled.pass_at.front().estimate;
  scores.pass_at_8 = sampled.pass_at.back().estimate;
  scores.majority = sampled.majority;
  scores.length = sampled.length;
  scores.greedy = greedy.pass_at.front().estimate;
  return scores;
}

}  // namespace

std::string ScoresText(const StageScores& scores) {
  return absl::StrFormat("pass@1 %.3f +- %.3f, pass@8 %.3f +- %.3f, maj@8 %.3f +- %.3f, greedy %.3f, length %.1f",
                         scores.pass_at_1.mean, scores.pass_at_1.error, scores.pass_at_8.mean, scores.pass_at_8.error,
                         scores.majority.mean, scores.majority.error, scores.greedy.mean, scores.length.mean);
}

absl::StatusOr<std::optional<StageScores>> ReadScores(const core::Config& config) {
  if (HeldOutProblems(config).empty() || !core::FileExists(PathOf(config))) return std::nullopt;
  ASSIGN_OR_RETURN(const std::string settings, SettingsOf(config));
  ASSIGN_OR_RETURN(const std::string text, core::ReadTextFile(PathOf(config), kMaxScoresBytes));
  return FromJson(text, PathOf(config), settings);
}

absl::StatusOr<std::optional<StageScores>> MakeScores(const core::Config& config, int threads, parallel::Job& job) {
  if (HeldOutProblems(config).empty() || config.stage == "reject") return std::nullopt;  // which makes no model
  std::optional<StageScores> kept;
  RETURN_IF_ERROR(OnFirst(job, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(kept, ReadScores(config));
    return absl::OkStatus();
  }));
  if (MaxOverRanks(job, kept ? 1 : 0) > 0) return kept;
  ASSIGN_OR_RETURN(const StageScores scores, Measure(EvaluationConfig(config), threads, job));
  RETURN_IF_ERROR(OnFirst(job, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string settings, SettingsOf(config));
    return core::ReplaceTextFile(PathOf(config), ToJson(scores, settings));
  }));
  return scores;
}

}  // namespace conclave::launch
