// SPDX-License-Identifier: Apache-2.0
#include "launch/train.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/config/hf_config.h"
#include "core/config/yaml.h"
#include "launch/banner.h"
#include "launch/ranks.h"
#include "launch/rejection.h"
#include "launch/run_checkpoints.h"
#include "launch/run_folder.h"
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

// What all ranks must have been started with: the resolved config, and options that decide what happens.
absl::StatusOr<core::Config> LoadSameConfig(const TrainOptions& options, parallel::Job& job) {
  auto config = core::LoadConfig(options.config, options.overrides);
  RETURN_IF_ERROR(job.AgreeOn(AsUsageError(config.status())));
  const std::string command =
      absl::StrFormat("train%s%s", options.dry_run ? " --dry-run" : "", options.trace.empty() ? "" : " --trace");
  RETURN_IF_ERROR(AsUsageError(job.CheckSame("the command", command)));
  RETURN_IF_ERROR(AsUsageError(job.CheckSame("the config", core::WriteConfig(*config))));
  return config;
}

absl::StatusOr<RunFolder> OpenRunFolder(const std::string& dir, parallel::Job& job) {
  absl::StatusOr<RunFolder> folder = IsFirst(job) ? RunFolder::Open(dir) : RunFolder::At(dir);
  RETURN_IF_ERROR(job.AgreeOn(folder.status()));
  return folder;
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

absl::StatusOr<ExitCode> TrainIn(const RunFolder& folder, core::Config config, const TrainOptions& options,
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
  if (config.stage == "distill") {
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

absl::StatusOr<ExitCode> Train(const TrainOptions& options, parallel::Job& job) {
  ASSIGN_OR_RETURN(core::Config config, LoadSameConfig(options, job));
  if (options.dry_run) {
    const RunFolder folder = RunFolder::At(config.run.dir);
    return TrainIn(folder, std::move(config), options, job);
  }
  using Messages = StopSignals::Messages;
  const StopSignals signals(IsFirst(job) ? Messages::kSay : Messages::kLeaveToOthers);
  ASSIGN_OR_RETURN(const RunFolder folder, OpenRunFolder(config.run.dir, job));
  const absl::StatusOr<ExitCode> code = TrainIn(folder, std::move(config), options, job);
  return absl::IsCancelled(code.status()) ? StopBeforeTheFirstStep(code.status(), job) : code;
}

}  // namespace conclave::launch
