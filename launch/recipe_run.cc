// SPDX-License-Identifier: Apache-2.0
#include "launch/recipe_run.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "launch/banner.h"
#include "launch/ranks.h"
#include "launch/report/recipe_report.h"
#include "launch/report/recipe_text.h"
#include "launch/report/report_page.h"
#include "launch/run_folder.h"
#include "launch/side_by_side.h"
#include "launch/signals.h"
#include "launch/stage_inputs.h"
#include "launch/stage_scores.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

absl::Status CheckOptions(const TrainOptions& options, parallel::Job& job) {
  if (!options.trace.empty() && options.stage.empty()) {
    return UsageError("--trace: is of one stage; add --stage NAME");
  }
  if (options.jobs > 1 && job.world().size() > 1) {
    return UsageError(
        "--jobs: stages run side by side on one rank; several ranks share each stage, one after the other");
  }
  return absl::OkStatus();
}

std::string MissingText(const core::StagePlan& plan, const core::StagePlan& input) {
  if (input.config.stage == "reject") {
    return absl::StrFormat("stage %s learns from %s, which is not done: no samples in %s", plan.name, input.name,
                           input.config.run.dir);
  }
  return absl::StrFormat("stage %s starts from %s, which is not done: no checkpoint of step %d in %s", plan.name,
                         input.name, input.config.train.steps, input.config.run.dir);
}

class RecipeRun {
 public:
  RecipeRun(const core::Recipe& recipe, const TrainOptions& options, parallel::Job& job)
      : recipe_(recipe), options_(options), job_(job) {}

  // Nothing: go on with the next stage.
  absl::StatusOr<std::optional<ExitCode>> Run(const core::StagePlan& plan) {
    RETURN_IF_ERROR(ShowPicture(plan.name));
    ASSIGN_OR_RETURN(const bool ready, HasInputs(plan));
    if (!ready) return std::nullopt;
    ASSIGN_OR_RETURN(const RunFolder folder, OpenRunFolder(plan.config.run.dir, options_, job_));
    if (!options_.dry_run) RETURN_IF_ERROR(OnFirst(job_, [&] { return CheckInputs(recipe_, plan); }));
    ASSIGN_OR_RETURN(const ExitCode code, TrainIn(folder, plan.config, options_, job_));
    if (options_.dry_run) return std::nullopt;
    if (code != ExitCode::kDone) {
      RETURN_IF_ERROR(Store());
      return code;
    }
    ASSIGN_OR_RETURN(const std::optional<StageScores> scores, MakeScores(plan.config, options_.threads, job_));
    if (scores && IsFirst(job_)) PrintLabelled("held out", ScoresText(*scores));
    RETURN_IF_ERROR(Store());
    return std::nullopt;
  }

  // Whether a signal has come to any rank while no step asked for it.
  std::optional<ExitCode> StopRequested() {
    return ExitCodeOfStop(static_cast<int>(MaxOverRanks(job_, StopReason(StopSignals::Requested()))));
  }

  absl::Status ShowTable() {
    return OnFirst(job_, [this]() -> absl::Status {
      ASSIGN_OR_RETURN(std::vector<StageRow> rows, ReadRows(recipe_));
      ASSIGN_OR_RETURN(const Report report, ReadReport(recipe_, std::move(rows)));
      const std::string text = RecipeText(report, PlotCharactersOfLocale());
      if (text.empty()) return absl::OkStatus();
      PrintLine(text);
      const std::string page = RunFolder::At(recipe_.dir).ReportPath();
      if (core::FileExists(page)) PrintLabelled("report", page);
      return absl::OkStatus();
    });
  }

 private:
  // Of a stage that has something to do.
  absl::Status ShowPicture(const std::string& present) {
    return OnFirst(job_, [&]() -> absl::Status {
      ASSIGN_OR_RETURN(const std::vector<StageRow> rows, ReadRows(recipe_));
      const auto row = std::find_if(rows.begin(), rows.end(), [&](const StageRow& r) { return r.name == present; });
      if (!row->done) PrintLine("\n" + RecipePicture(rows, present));
      return absl::OkStatus();
    });
  }

  absl::Status Store() {
    return OnFirst(job_, [this] { return StoreReport(recipe_); });
  }

  // Whether what `plan` reads of other stages is there; a dry run says that it is not, and goes on.
  absl::StatusOr<bool> HasInputs(const core::StagePlan& plan) {
    std::string missing;
    RETURN_IF_ERROR(OnFirst(job_, [&]() -> absl::Status {
      for (const core::StagePlan& input : recipe_.stages) {
        if (!ReadsStage(plan, input)) continue;
        ASSIGN_OR_RETURN(const bool done, IsDone(input.config));
        if (!done) missing = MissingText(plan, input);
      }
      if (missing.empty()) return absl::OkStatus();
      if (!options_.dry_run) return absl::FailedPreconditionError(missing + "; run that stage first");
      PrintLine(missing);
      return absl::OkStatus();
    }));
    return MaxOverRanks(job_, missing.empty() ? 0 : 1) == 0;
  }

  const core::Recipe& recipe_;
  const TrainOptions& options_;
  parallel::Job& job_;
};

// The stages side by side, each as `--stage` would train it.
absl::StatusOr<ExitCode> RunInProcesses(const core::Recipe& recipe, const TrainOptions& options, parallel::Job& job) {
  ASSIGN_OR_RETURN(const ExitCode code,
                   RunSideBySide(recipe, options.jobs, options.threads, [&](const core::StagePlan& plan, int threads) {
                     TrainOptions own = options;
                     own.threads = threads;
                     const auto stop = RecipeRun(recipe, own, job).Run(plan);
                     if (!stop.ok()) return ReportError(stop.status());
                     return stop->value_or(ExitCode::kDone);
                   }));
  if (code != ExitCode::kDone) PrintLine("the recipe stopped; the same command goes on");
  return code;
}

}  // namespace

absl::StatusOr<ExitCode> RunRecipe(const core::Recipe& recipe, const TrainOptions& options, parallel::Job& job) {
  RETURN_IF_ERROR(job.AgreeOn(CheckOptions(options, job)));
  RecipeRun run(recipe, options, job);
  if (options.jobs > 1 && options.stage.empty() && !options.dry_run) {
    ASSIGN_OR_RETURN(const ExitCode code, RunInProcesses(recipe, options, job));
    if (code == ExitCode::kDone) RETURN_IF_ERROR(run.ShowTable());
    return code;
  }
  for (const core::StagePlan& plan : recipe.stages) {
    if (!options.stage.empty() && plan.name != options.stage) continue;
    std::optional<ExitCode> stop = run.StopRequested();
    if (!stop) {
      ASSIGN_OR_RETURN(stop, run.Run(plan));
    }
    if (!stop) continue;
    if (IsFirst(job)) PrintLine(absl::StrFormat("the recipe stopped at stage %s; the same command goes on", plan.name));
    return *stop;
  }
  RETURN_IF_ERROR(run.ShowTable());
  return ExitCode::kDone;
}

}  // namespace conclave::launch
