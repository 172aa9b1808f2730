// SPDX-License-Identifier: Apache-2.0
// Step after step: batch, update, validation, metrics, checkpoint, in this order. A step's line of metrics is complete
// before its checkpoint exists, so a resume from that checkpoint neither repeats nor lacks a line.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/model_graph.h"
#include "launch/exit_code.h"
#include "launch/metrics.h"
#include "launch/progress.h"
#include "launch/run_checkpoints.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/step_profiler.h"
#include "launch/tensorboard.h"
#include "optim/trainer.h"

namespace conclave::launch {

class TrainLoop {
 public:
  TrainLoop(const RunFolder& folder, const core::Config& config, RunParts& parts, const CheckpointWriter& writer,
            RunState state);

  // Opens metrics and events, cut back to the step of the state.
  absl::Status Open();
  // Says, after the next `num_steps` steps and a few to warm up, where their time went. Needs parts.operations.
  void Profile(int64_t num_steps) { profiler_.emplace(*parts_.operations, num_steps); }
  // Trains to the end, or until a signal asks to stop.
  absl::StatusOr<ExitCode> Run();

 private:
  struct Validation {
    double loss = 0, bits_per_byte = 0;
  };

  void RunStep();
  Validation Validate();
  bool IsDue(int64_t interval) const;  // in the step that was just done
  void Record(const optim::StepMetrics& metrics, double seconds, const std::optional<Validation>& validation);
  void RecordEvents(const optim::StepMetrics& metrics, double seconds, const std::optional<Validation>& validation);
  void ShowProgress(const optim::StepMetrics& metrics, double seconds, const std::optional<Validation>& validation);
  void ReportProfile();  // if one was asked for: once
  void Save();
  void Warn(const std::string& text);
  ExitCode Stop(ExitCode code);
  absl::StatusOr<ExitCode> Finish();

  const RunFolder& folder_;
  const core::Config& config_;
  RunParts& parts_;
  const CheckpointWriter& writer_;
  const core::ModelGraph graph_;
  RunState state_;
  int64_t first_step_ = 0;  // steps done before this process
  int64_t saved_step_ = 0;  // of the newest checkpoint
  std::string saved_path_;
  std::chrono::steady_clock::time_point start_;
  AppendFile metrics_;
  EventFile events_;
  Progress progress_;
  std::optional<StepProfiler> profiler_;  // until it has reported
  std::vector<double> losses_;            // of all steps of the run
  std::optional<Validation> last_validation_;
  double data_seconds_ = 0;      // of the last step: its batch
  bool writing_failed_ = false;  // said so
};

}  // namespace conclave::launch
