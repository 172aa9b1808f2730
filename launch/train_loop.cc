// SPDX-License-Identifier: Apache-2.0
#include "launch/train_loop.h"

#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "launch/banner.h"
#include "launch/signals.h"
#include "optim/weights.h"

namespace conclave::launch {
TrainLoop::TrainLoop(const RunFolder& folder, const core::Config& config, RunParts& parts, StageSteps& steps,
                     CheckpointWriter& writer, parallel::Job& job, RunReport* report, RunState state)
    : folder_(folder),
      config_(config),
      parts_(parts),
      steps_(steps),
      writer_(writer),
      job_(job),
      report_(report),
      state_(std::move(state)),
      saved_step_(state_.step) {}

absl::StatusOr<ExitCode> TrainLoop::Run() {
  while (state_.step < config_.train.steps) {
    ASSIGN_OR_RETURN(const std::optional<ExitCode> stop, RunStep());
    if (state_.step == config_.train.steps) break;
    if (stop) return Stop(*stop);
    if (saved_step_ == state_.step) RETURN_IF_ERROR(BalanceExperts());
  }
  return Finish();
}

absl::StatusOr<std::optional<ExitCode>> TrainLoop::RunStep() {
  if (profiler_) profiler_->BeginStep();
  ASSIGN_OR_RETURN(StepReport step, steps_.Step(state_));
  if (profiler_) profiler_->EndStep(state_.step, step.seconds, step.data_seconds);
  if (!step.metrics.finite) {
    Warn(absl::StrFormat("step %d: the loss or a gradient is not finite or out of range; the step changed nothing",
                         state_.step));
  }
  if (IsDue(config_.train.validate_every)) {
    ASSIGN_OR_RETURN(step.validation, steps_.Validate());
  }
  if (report_ != nullptr) report_->Add(step);
  if (IsDue(config_.train.checkpoint_every) || steps_.NeedsCheckpoint(state_.step)) Save();
  if (profiler_ && profiler_->Complete()) ReportProfile();
  return ExitCodeOfStop(step.metrics.stop_reason);
}

bool TrainLoop::IsDue(int64_t interval) const {
  return state_.step == config_.train.steps || (interval > 0 && state_.step % interval == 0);
}

void TrainLoop::ReportProfile() {
  if (!profiler_) return;
  if (profiler_->num_measured() == 0) {
    Warn("--profile: the run ended in the steps to warm up, nothing was measured; raise train.steps");
  } else {
    const StepProfile profile = profiler_->Summarize();
    report_->Print(ProfileTable(profile));
    const auto written = core::WriteTextFile(folder_.ProfilePath(), ProfileLines(profile));
    if (!written.ok()) Warn(absl::StrFormat("%s; training goes on", std::string(written.status().message())));
  }
  profiler_.reset();
}

void TrainLoop::Save() {
  // First the metrics: after a crash of the machine, too, no checkpoint is ahead of them.
  if (report_ != nullptr) report_->Sync();
  const absl::StatusOr<std::string> path = writer_.Save(state_);
  if (path.ok()) {
    saved_step_ = state_.step;
    saved_path_ = *path;
    return;
  }
  if (parallel::IsReported(path.status())) return;
  // The rank that has the message, which may be any.
  const std::string text =
      absl::StrFormat("step %d was not saved: %s; training goes on", state_.step, std::string(path.status().message()));
  report_ != nullptr ? report_->Warn(text) : core::LogWarning(text);
}

absl::Status TrainLoop::BalanceExperts() {
  if (!config_.parallel.balance_experts || !parts_.layout->Rebalance(parts_.trainer->expert_load())) {
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(RecreateModel(config_, job_, parts_));
  RETURN_IF_ERROR(job_.AgreeOn(core::RestoreState(saved_path_, optim::RestoredTensors(*parts_.model))));
  parts_.trainer->Refresh();
  RETURN_IF_ERROR(steps_.FollowModel());
  writer_.ShareWeights();
  if (report_ != nullptr)
    report_->Print(absl::StrFormat("step %d: experts moved to balance the load of ranks", state_.step));
  return absl::OkStatus();
}

void TrainLoop::Warn(const std::string& text) {
  if (report_ != nullptr) report_->Warn(text);
}

ExitCode TrainLoop::Stop(ExitCode code) {
  if (report_ != nullptr) report_->EndProgress();
  if (saved_step_ != state_.step) Save();
  ReportProfile();
  if (saved_step_ != state_.step) return ExitCode::kFailed;
  if (report_ != nullptr) {
    PrintLine(absl::StrFormat("stopped at step %d of %d%s; the same command goes on from there", state_.step,
                              config_.train.steps, saved_path_.empty() ? "" : ", saved in " + saved_path_));
  }
  return code;
}

absl::StatusOr<ExitCode> TrainLoop::Finish() {
  if (report_ != nullptr) report_->EndProgress();
  ReportProfile();
  if (report_ != nullptr) report_->PrintSummary();
  absl::Status status;
  if (!parts_.trainer->MeasuredAsPlanned()) {
    status = absl::InternalError(
        absl::StrFormat("planned memory of a pass was %d bytes, measured %d: please report this",
                        parts_.trainer->planned_memory().Total(), parts_.trainer->measured_memory().Total()));
  }
  RETURN_IF_ERROR(job_.AgreeOn(status));
  if (saved_step_ != state_.step) return job_.AgreeOn(absl::UnavailableError("the last step could not be saved"));
  if (report_ != nullptr) PrintLabelled("saved", saved_path_);
  return ExitCode::kDone;
}

}  // namespace conclave::launch
