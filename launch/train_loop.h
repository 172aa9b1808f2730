// SPDX-License-Identifier: Apache-2.0
// Step after step: the stage's step (stage_steps.h), validation, metrics, checkpoint, in this order. A step's line of
// metrics is complete before its checkpoint exists, so a resume from that checkpoint neither repeats nor lacks a line.
// All ranks go through the same loop; what it decides follows from numbers that all of them have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/exit_code.h"
#include "launch/run_checkpoints.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/run_report.h"
#include "launch/stage_steps.h"
#include "launch/step_profiler.h"
#include "parallel/job.h"

namespace conclave::launch {

class TrainLoop {
 public:
  // `report`: of rank 0; null on the others.
  TrainLoop(const RunFolder& folder, const core::Config& config, RunParts& parts, StageSteps& steps,
            CheckpointWriter& writer, parallel::Job& job, RunReport* report, RunState state);

  // Says, after the next `num_steps` steps and a few to warm up, where their time went. Needs parts.operations and a
  // report.
  void Profile(int64_t num_steps) {
    profiler_.emplace(*parts_.operations, *parts_.device, parts_.model->dtype(), num_steps);
  }
  // Trains to the end, or until a signal to any rank asks to stop.
  absl::StatusOr<ExitCode> Run();

 private:
  // How to exit if the step was the last.
  absl::StatusOr<std::optional<ExitCode>> RunStep();
  bool IsDue(int64_t interval) const;  // in the step that was just done
  void ReportProfile();                // if one was asked for: once
  void Save();
  // Behind a checkpoint, from which each rank reads what it holds from then on.
  absl::Status BalanceExperts();
  void Warn(const std::string& text);
  ExitCode Stop(ExitCode code);
  absl::StatusOr<ExitCode> Finish();

  const RunFolder& folder_;
  const core::Config& config_;
  RunParts& parts_;
  StageSteps& steps_;
  CheckpointWriter& writer_;
  parallel::Job& job_;
  RunReport* const report_;
  RunState state_;
  int64_t saved_step_ = 0;  // of the newest checkpoint
  std::string saved_path_;
  std::optional<StepProfiler> profiler_;  // until it has reported
};

}  // namespace conclave::launch
