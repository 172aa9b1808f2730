// SPDX-License-Identifier: Apache-2.0
#include "launch/eval_problems.h"

#include <stdio.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/file_io.h"
#include "core/config/yaml.h"
#include "data/prompts.h"
#include "launch/line_sink.h"
#include "launch/metrics.h"
#include "launch/model_loading.h"
#include "launch/problem_evaluation.h"
#include "launch/ranks.h"
#include "launch/rollout_record.h"
#include "launch/run_parts.h"
#include "launch/text.h"
#include "launch/usage_error.h"
#include "rl/rollout_text.h"

namespace conclave::launch {
namespace {

constexpr int64_t kMostSamples = 4096;  // numbers of samples are 12 bits of what keys a draw
constexpr int64_t kAnyLength = 1 << 20;

// Words that change the config may stand among the files, too, as nothing tells a command line where a list ends.
struct Words {
  std::vector<std::string> files, overrides;
};

bool IsOverride(const std::string& word) {
  const size_t equals = word.find('=');
  return equals != std::string::npos && word.find_first_of("/ ") > equals && !core::FileExists(word);
}

absl::StatusOr<Words> SortWords(const EvalOptions& options) {
  Words words;
  for (const auto* list : {&options.problem.files, &options.words}) {
    for (const std::string& word : *list) (IsOverride(word) ? words.overrides : words.files).push_back(word);
  }
  for (const std::string& word : options.words) {
    if (IsOverride(word)) continue;
    return UsageError(absl::StrFormat(
        "FILES: %s: beside --tasks and --problems stand changes of the config such as rollout.top_p=0.9; name files "
        "of problems behind --problems, and evaluate text in a command of its own",
        word));
  }
  constexpr std::pair<std::string_view, const char*> kOptions[] = {
      {"rollout.temperature=", "--temperature"}, {"rollout.prompts=", "--prompts"}, {"rollout.group=", "--samples"}};
  for (const std::string& word : words.overrides) {
    for (const auto& [key, option] : kOptions) {
      if (word.starts_with(key)) return UsageError(absl::StrFormat("%s: has no effect here; give %s", word, option));
    }
  }
  return words;
}

// "tasks.digits=4" is for all tasks, whose list a run's config has.
std::vector<std::string> ForAllTasks(const std::vector<std::string>& overrides, size_t num_tasks) {
  constexpr std::string_view kTasks = "tasks.";
  std::vector<std::string> expanded;
  for (const std::string& word : overrides) {
    const bool all = word.starts_with(kTasks) && word.find_first_of("0123456789") != kTasks.size();
    if (!all) expanded.push_back(word);
    for (size_t i = 0; all && i < num_tasks; ++i) {
      expanded.push_back(absl::StrFormat("tasks.%d.%s", i, word.substr(kTasks.size())));
    }
  }
  return expanded;
}

// Of the run that made the folder; defaults for one that no run of ours made.
absl::StatusOr<core::Config> ConfigOfRun(const std::string& dir, const EvalOptions& options) {
  ASSIGN_OR_RETURN(const FolderConfig folder, ReadFolderConfig(dir));
  core::Config run;
  std::string precision = options.precision;
  if (IsCheckpoint(dir)) {
    ASSIGN_OR_RETURN(const core::CheckpointMeta meta, core::ReadCheckpointMeta(dir));
    ASSIGN_OR_RETURN(run, core::ParseConfig(meta.config_yaml, dir, {}));
    if (precision.empty()) precision = run.precision;
  }
  ASSIGN_OR_RETURN(const core::Precision chosen, ChoosePrecision(precision, folder));
  run.precision = chosen == core::Precision::kBf16 ? "bf16" : "f32";
  // A run that has never drawn anything may have lengths that do not fit its model.
  if (run.stage != "grpo" && !CheckPositions(run, folder.model).ok()) {
    const int64_t positions = folder.model.max_position_embeddings;
    run.rollout.max_tokens = std::clamp<int64_t>(positions / 2, 1, run.rollout.max_tokens);
    run.data.max_prompt_tokens = std::clamp<int64_t>(positions - run.rollout.max_tokens, 1, run.data.max_prompt_tokens);
  }
  return run;
}

void AddSources(const core::Config& run, const ProblemOptions& problem, const std::vector<std::string>& files,
                core::Config& config) {
  for (const std::string& name : problem.tasks) {
    core::TaskConfig& task = config.tasks.emplace_back();
    task.name = name;
    for (const core::TaskConfig& of_run : run.tasks) {
      if (of_run.name == name) task = of_run;
    }
    core::SourceConfig& source = config.data.validation.emplace_back();
    source.task = name;
    source.split = "held_out";
  }
  for (const std::string& path : files) config.data.validation.emplace_back().path = path;
  config.data.prompts = config.data.validation;  // drawn from by nobody
}

absl::StatusOr<core::Config> MakeConfig(const EvalOptions& options, const Words& words) {
  const ProblemOptions& problem = options.problem;
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  ASSIGN_OR_RETURN(const core::Config run, ConfigOfRun(dir, options));
  core::Config config;
  config.stage = "grpo";  // of whose rules those for rollouts and rewards hold here
  config.grpo.off_policy.correction = "truncate";
  config.model.from = dir;
  config.precision = run.precision;
  config.data.tokenizer = options.tokenizer.empty() ? "auto" : options.tokenizer;
  config.data.chat_template = run.data.chat_template;
  config.data.system = run.data.system;
  config.data.max_prompt_tokens = run.data.max_prompt_tokens;
  config.data.long_prompts = run.data.long_prompts;
  config.data.sequence_length = kAnyLength;
  config.rollout = {.max_tokens = problem.max_tokens.value_or(run.rollout.max_tokens),
                    .top_p = run.rollout.top_p,
                    .top_k = run.rollout.top_k,
                    .min_p = run.rollout.min_p,
                    .stop = run.rollout.stop,
                    .cache = run.rollout.cache};
  config.reward = run.reward;
  if (config.reward.empty()) config.reward.emplace_back().name = "math";
  config.eval = {.prompts = problem.problems.value_or(run.eval.prompts),
                 .samples = problem.samples.value_or(run.eval.samples),
                 .temperature = problem.temperature.value_or(run.eval.temperature)};
  AddSources(run, problem, words.files, config);
  auto changed = core::ParseConfig(core::WriteConfig(config), dir, ForAllTasks(words.overrides, config.tasks.size()));
  RETURN_IF_ERROR(AsUsageError(changed.status()));
  changed->data.sequence_length = changed->data.max_prompt_tokens + changed->rollout.max_tokens;
  if (changed->eval.samples > kMostSamples) {
    return UsageError(absl::StrFormat("--samples: %d is more than %d", changed->eval.samples, kMostSamples));
  }
  if (changed->eval.temperature == 0 && problem.samples.value_or(1) > 1) {
    return UsageError(absl::StrFormat("--samples: at temperature 0 all %d would be the same; give --temperature",
                                      changed->eval.samples));
  }
  return changed;
}

// Everything that passes need, with the problems. Collective, errors agreed on.
absl::Status CreateEvaluationParts(core::Config& config, int threads, parallel::Job& job, RunParts& parts) {
  RETURN_IF_ERROR(job.AgreeOn(LoadTokenizerAndModelConfig(config, parts)));
  parts.model_config.num_nextn_predict_layers = 0;
  RETURN_IF_ERROR(job.AgreeOn(CheckVocabulary(*parts.tokenizer, parts.model_config)));
  RETURN_IF_ERROR(job.AgreeOn(CheckPositions(config, parts.model_config)));
  const data::PromptContext context{config.data, config.tasks, *parts.tokenizer};
  auto problems = data::ReadValidationPrompts(context, config.eval.prompts);
  RETURN_IF_ERROR(job.AgreeOn(problems.status()));
  parts.problems = *std::move(problems);
  RETURN_IF_ERROR(CreateLayoutAndDevice(config, threads, job, parts));
  auto model = CreateInferenceModel(config, job, parts);
  RETURN_IF_ERROR(model.status());
  parts.model = *std::move(model);
  return job.AgreeOn(LoadTrainedWeights(config.model.from, *parts.model));
}

struct Result {
  rl::Evaluation all;
  std::vector<std::pair<std::string, rl::Evaluation>> by_source;
  std::string lines;  // of its samples
};

absl::StatusOr<Result> Measure(const core::Config& config, const RunParts& parts, uint64_t seed, parallel::Job& job) {
  auto evaluation =
      ProblemEvaluation::Create(config, *parts.tokenizer, parts.problems, *parts.model, *parts.layout, seed);
  RETURN_IF_ERROR(job.AgreeOn(evaluation.status()));
  ASSIGN_OR_RETURN(const rl::Evaluation all, (*evaluation)->Run());
  return Result{.all = all,
                .by_source = (*evaluation)->BySource(),
                .lines = rl::WriteGroups((*evaluation)->groups(), (*evaluation)->RewardNames())};
}

struct Results {
  Result greedy;
  std::optional<Result> sampled;

  const Result& last() const { return sampled ? *sampled : greedy; }
};

void PrintJson(const core::Config& config, uint64_t seed, const Results& results) {
  JsonLine line;
  line.Add("checkpoint", config.model.from);
  line.Add("prompts", results.greedy.all.prompts);
  line.Add("greedy", results.greedy.all.pass_at[0].estimate.mean);
  line.Add("greedy_stderr", results.greedy.all.pass_at[0].estimate.error);
  line.Add("greedy_length", results.greedy.all.length.mean);
  line.Add("greedy_truncated", results.greedy.all.truncated);
  for (const auto& [name, evaluation] : results.greedy.by_source) {
    line.Add("greedy/" + name, evaluation.pass_at[0].estimate.mean);
  }
  line.Add("max_tokens", config.rollout.max_tokens);
  line.Add("precision", config.precision);
  if (results.sampled) {
    line.Add("samples", results.sampled->all.samples);
    line.Add("temperature", config.eval.temperature);
    line.Add("top_p", config.rollout.top_p);
    line.Add("top_k", config.rollout.top_k);
    line.Add("min_p", config.rollout.min_p);
    line.Add("seed", static_cast<int64_t>(seed));
    for (const Figure& figure : EvaluationFigures(results.sampled->all)) line.Add(figure.name, figure.value);
    for (const auto& [name, evaluation] : results.sampled->by_source) {
      for (const Figure& figure : EvaluationFigures(evaluation)) line.Add(figure.name + "/" + name, figure.value);
    }
  }
  fputs(line.Take().c_str(), stdout);
}

std::string SettingsText(const core::Config& config, uint64_t seed, const Results& results) {
  std::string text = "greedy";
  if (results.sampled) {
    absl::StrAppend(&text, ", and ", results.sampled->all.samples,
                    absl::StrFormat(" sample%s of each at temperature %g", results.sampled->all.samples == 1 ? "" : "s",
                                    config.eval.temperature));
    if (config.rollout.top_p < 1) absl::StrAppend(&text, ", top-p ", config.rollout.top_p);
    if (config.rollout.top_k > 0) absl::StrAppend(&text, ", top-k ", config.rollout.top_k);
    if (config.rollout.min_p > 0) absl::StrAppend(&text, ", min-p ", config.rollout.min_p);
    absl::StrAppend(&text, ", seed ", seed);
  }
  absl::StrAppend(&text, "; at most ", config.rollout.max_tokens, " tokens, precision ", config.precision);
  return text;
}

void PrintEstimate(const std::string& name, const rl::Estimate& estimate) {
  absl::PrintF("%-11s %8.4f +- %.4f\n", name, estimate.mean, estimate.error);
}

void PrintFigures(const rl::Evaluation& greedy, const rl::Evaluation* sampled) {
  PrintEstimate("greedy", greedy.pass_at[0].estimate);
  if (sampled != nullptr) {
    for (const rl::PassAt& pass : sampled->pass_at) PrintEstimate(absl::StrFormat("pass@%d", pass.k), pass.estimate);
    if (sampled->samples > 1) PrintEstimate(absl::StrFormat("maj@%d", sampled->samples), sampled->majority);
  }
  const rl::Evaluation& last = sampled != nullptr ? *sampled : greedy;
  absl::PrintF("%-11s %8.2f +- %.2f tokens\n%-11s %8.2f %%\n", "length", last.length.mean, last.length.error,
               "truncated", 100 * last.truncated);
}

void Print(const core::Config& config, uint64_t seed, const RunParts& parts, const Results& results) {
  std::vector<std::string> sources;
  for (const core::SourceConfig& source : config.data.validation) {
    sources.push_back(source.task.empty() ? source.path : source.task + "/" + source.split);
  }
  absl::PrintF("%-11s %s\n", "checkpoint", config.model.from);
  absl::PrintF("%-11s %s of %s\n", "problems", CountText(static_cast<int64_t>(parts.problems.size())),
               absl::StrJoin(sources, ", "));
  absl::PrintF("%-11s %s\n", "sampling", SettingsText(config, seed, results));
  PrintFigures(results.greedy.all, results.sampled ? &results.sampled->all : nullptr);
  for (size_t i = 0; i < results.greedy.by_source.size(); ++i) {
    const auto& [name, greedy] = results.greedy.by_source[i];
    absl::PrintF("\n%s, %s problems\n", name, CountText(greedy.prompts));
    PrintFigures(greedy, results.sampled ? &results.sampled->by_source[i].second : nullptr);
  }
}

absl::Status SaveSamples(const std::string& path, const std::string& lines) {
  if (path.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(LineSink sink, LineSink::Create(path));
  RETURN_IF_ERROR(sink.Write(lines));
  return sink.Finish();
}

}  // namespace

absl::StatusOr<ExitCode> EvalProblems(const EvalOptions& options, parallel::Job& job) {
  const absl::StatusOr<Words> words = SortWords(options);
  RETURN_IF_ERROR(job.AgreeOn(words.status()));
  absl::StatusOr<core::Config> config = MakeConfig(options, *words);
  RETURN_IF_ERROR(job.AgreeOn(config.status()));
  const auto seed = static_cast<uint64_t>(options.problem.seed.value_or(int64_t{rl::kEvaluationSeed}));
  RETURN_IF_ERROR(
      AsUsageError(job.CheckSame("the evaluation", absl::StrFormat("seed: %d\n%s", seed, core::WriteConfig(*config)))));
  RunParts parts;
  RETURN_IF_ERROR(CreateEvaluationParts(*config, options.threads, job, parts));
  Results results;
  core::Config greedy = *config;
  greedy.eval.samples = 1;
  greedy.eval.temperature = 0;
  ASSIGN_OR_RETURN(results.greedy, Measure(greedy, parts, seed, job));
  if (config->eval.temperature > 0) {
    ASSIGN_OR_RETURN(results.sampled, Measure(*config, parts, seed, job));
  }
  RETURN_IF_ERROR(OnFirst(job, [&] { return SaveSamples(options.problem.out, results.last().lines); }));
  if (IsFirst(job)) options.json ? PrintJson(*config, seed, results) : Print(*config, seed, parts, results);
  return ExitCode::kDone;
}

}  // namespace conclave::launch
