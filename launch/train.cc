// SPDX-License-Identifier: Apache-2.0
#include "launch/train.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/config/hf_config.h"
#include "core/config/recipe.h"
#include "launch/banner.h"
#include "launch/ranks.h"
#include "launch/recipe_run.h"
#include "launch/rejection.h"
#include "launch/report/report_page.h"
#include "launch/run_checkpoints.h"
#include "launch/run_parts.h"
#include "launch/run_report.h"
#include "launch/run_trace.h"
#include "launch/signals.h"
#include "launch/train_loop.h"
#include "launch/usage_error.h"
#include "optim/sum_error.h"

namespace conclave::launch {
namespace {

void SayFinished(const core::Config& config, const Resume& resume) {
  PrintLine(absl::StrFormat("already done: %s holds step %d of %d; raise train.steps to go on", resume.path,
                            resume.meta.step, config.train.steps));
}

std::string StartText(const core::Config& config, const std::optional<Resume>& resume) {
  if (!resume) return config.model.from.empty() ? "new run" : "new run, weights from " + config.model.from;
  return absl::StrFormat("resuming from %s, step %d", resume->path, resume->meta.step);
}

// `cancelled`: agreed on. A signal has come to one rank at least.
ExitCode StopBeforeTheFirstStep(const absl::Status& cancelled, parallel::Job& job) {
  const int64_t reason = MaxOverRanks(job, StopReason(StopSignals::Requested()));
  if (!parallel::IsReported(cancelled)) {
    PrintLine(absl::StrFormat("%s; the same command begins anew", std::string(cancelled.message())));
  }
  return ExitCodeOfStop(static_cast<int>(reason)).value_or(ExitCode::kFailed);
}

absl::Status CheckStageOptions(const core::Recipe& recipe, const TrainOptions& options) {
  if (options.jobs > 1 && recipe.IsOneRun()) {
    return UsageError(absl::StrFormat("--jobs: %s has no `stages` that could run side by side", options.config));
  }
  const absl::Status status = options.stage.empty() ? absl::OkStatus() : recipe.CheckHas(options.stage);
  return status.ok() ? status : UsageError(absl::StrFormat("--stage: %s", std::string(status.message())));
}

// What all ranks must have been started with: the resolved config, and options that decide what happens.
absl::StatusOr<core::Recipe> LoadSameRecipe(const TrainOptions& options, parallel::Job& job) {
  auto recipe = core::LoadRecipe(options.config, options.overrides);
  RETURN_IF_ERROR(job.AgreeOn(AsUsageError(recipe.status())));
  RETURN_IF_ERROR(job.AgreeOn(CheckStageOptions(*recipe, options)));
  const std::string command =
      absl::StrFormat("train%s%s%s", options.dry_run ? " --dry-run" : "", options.trace.empty() ? "" : " --trace",
                      options.stage.empty() ? "" : " --stage " + options.stage);
  RETURN_IF_ERROR(AsUsageError(job.CheckSame("the command", command)));
  RETURN_IF_ERROR(AsUsageError(job.CheckSame("the config", core::WriteRecipe(*recipe))));
  return recipe;
}

absl::Status CreateTrainingParts(const core::Config& config, const TrainOptions& options, parallel::Job& job,
                                 RunParts& parts) {
  if (options.profile && IsFirst(job)) parts.operations = std::make_unique<core::OperationProfile>();
  if (!options.trace.empty()) {
    RETURN_IF_ERROR(CheckTraceFile(options.trace, job));
    parts.trace = std::make_unique<core::Trace>();
  }
  return CreateParts(config, options.threads, job, parts);
}

// The state of the step that the run begins or goes on with.
absl::StatusOr<RunState> SetState(const std::optional<Resume>& resume, const core::Config& config, parallel::Job& job,
                                  RunParts& parts) {
  RunState state;
  if (resume) {
    ASSIGN_OR_RETURN(state, RestoreRun(*resume, config, parts, job));
  } else {
    RETURN_IF_ERROR(InitializeWeights(config, job, parts));
  }
  state.history.push_back(HistoryLine(config, state.step, parts));
  return state;
}

// What `exact: false` gives away, on the next batch; a run whose memory has no room for the comparison goes on without.
absl::Status SayWhatFloatSumsCost(const RunState& state, const core::Config& config, parallel::Job& job,
                                  RunParts& parts) {
  const core::Batch batch =
      parts.loader->TrainBatch(state.data_position, optim::RowsOfStep(config.batch, state.step + 1));
  const auto error = optim::MeasureSumError(*parts.trainer, *parts.model, job.world(), batch);
  if (!IsFirst(job)) return absl::OkStatus();
  PrintLine(error.ok() ? optim::SumErrorText(*error)
                       : absl::StrFormat("float sums were not compared: %s", std::string(error.status().message())));
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> RunFrom(RunState state, const RunFolder& folder, const core::Config& config,
                                 const TrainOptions& options, parallel::Job& job, RunParts& parts) {
  std::optional<RunReport> report;
  if (IsFirst(job)) report.emplace(folder, config, parts.model_config, state.step);
  RETURN_IF_ERROR(OnFirst(job, [&report] { return report->Open(); }));
  if (!config.exact && parts.loader) RETURN_IF_ERROR(SayWhatFloatSumsCost(state, config, job, parts));
  CheckpointWriter writer(folder, config, options.version, parts, job);
  auto steps = MakeStageSteps(config, folder, parts, job);
  RETURN_IF_ERROR(job.AgreeOn(steps.status()));
  TrainLoop loop(folder, config, parts, **steps, writer, job, report ? &*report : nullptr, std::move(state));
  if (options.profile && report) loop.Profile(options.profile_steps);
  absl::StatusOr<ExitCode> code = loop.Run();
  if (parts.trace) WriteTrace(options.trace, parts, job);
  return code;
}

absl::StatusOr<ExitCode> RunStage(const RunFolder& folder, core::Config config, const TrainOptions& options,
                                  parallel::Job& job) {
  if (config.stage == "reject") return Reject(folder, std::move(config), options, job);
  ASSIGN_OR_RETURN(const std::optional<Resume> resume, FindResume(folder, job));
  RunParts parts;
  RETURN_IF_ERROR(job.AgreeOn(LoadTokenizerAndModelConfig(config, parts)));
  RETURN_IF_ERROR(job.CheckSame("the model", core::WriteHfConfig(parts.model_config, "float32")));
  if (resume) {
    RETURN_IF_ERROR(CheckResume(*resume, config, job));
    if (resume->meta.step >= config.train.steps) {
      if (IsFirst(job)) SayFinished(config, *resume);
      return ExitCode::kDone;
    }
  }
  RETURN_IF_ERROR(job.AgreeOn(LoadTeacherConfig(config, parts)));
  if (config.stage == "distill" && !config.TrainsOnRollouts()) {
    ASSIGN_OR_RETURN(const std::optional<ExitCode> stop, PrepareTeacherSamples(folder, config, parts, options, job));
    if (stop) return *stop;
  }
  RETURN_IF_ERROR(CreateTrainingParts(config, options, job, parts));
  const std::string start = StartText(config, resume);
  if (options.dry_run) {
    PrintBanner(config, parts, start, options.version, job);
    if (IsFirst(job)) PrintLine("dry run: nothing was trained, the run folder is as it was");
    return ExitCode::kDone;
  }
  ASSIGN_OR_RETURN(RunState state, SetState(resume, config, job, parts));
  RETURN_IF_ERROR(OnFirst(job, [&] { return folder.StoreConfig(config); }));
  PrintBanner(config, parts, start, options.version, job);
  return RunFrom(std::move(state), folder, config, options, job, parts);
}

}  // namespace

absl::StatusOr<RunFolder> OpenRunFolder(const std::string& dir, const TrainOptions& options, parallel::Job& job) {
  const bool owns = IsFirst(job) && !options.dry_run;
  absl::StatusOr<RunFolder> folder = owns ? RunFolder::Open(dir) : RunFolder::At(dir);
  RETURN_IF_ERROR(job.AgreeOn(folder.status()));
  return folder;
}

absl::StatusOr<ExitCode> TrainIn(const RunFolder& folder, core::Config config, const TrainOptions& options,
                                 parallel::Job& job) {
  const absl::StatusOr<ExitCode> code = RunStage(folder, std::move(config), options, job);
  return absl::IsCancelled(code.status()) ? StopBeforeTheFirstStep(code.status(), job) : code;
}

absl::StatusOr<ExitCode> Train(const TrainOptions& options, parallel::Job& job) {
  ASSIGN_OR_RETURN(const core::Recipe recipe, LoadSameRecipe(options, job));
  using Messages = StopSignals::Messages;
  std::optional<StopSignals> signals;
  if (!options.dry_run) signals.emplace(IsFirst(job) ? Messages::kSay : Messages::kLeaveToOthers);
  if (!recipe.IsOneRun()) return RunRecipe(recipe, options, job);
  ASSIGN_OR_RETURN(const RunFolder folder, OpenRunFolder(recipe.dir, options, job));
  const absl::StatusOr<ExitCode> code = TrainIn(folder, recipe.stages[0].config, options, job);
  if (!code.ok() || options.dry_run) return code;
  RETURN_IF_ERROR(OnFirst(job, [&recipe] { return StorePage(recipe); }));
  return code;
}

}  // namespace conclave::launch
