// SPDX-License-Identifier: Apache-2.0
// What a run tells of its steps: metrics.jsonl, samples.jsonl, TensorBoard events, the progress line, and a summary.
// Rank 0 has the one report of a run.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

#include "core/config/config.h"
#include "core/model/model_graph.h"
#include "launch/collapse_watch.h"
#include "launch/metrics.h"
#include "launch/progress.h"
#include "launch/rollout_record.h"
#include "launch/run_folder.h"
#include "launch/sample_log.h"
#include "launch/tensorboard.h"
#include "optim/trainer.h"
#include "rl/evaluation.h"
#include "rl/grpo_metrics.h"

namespace conclave::launch {

// On held-out data: a loss of text, or problems solved, or both.
struct Validation {
  std::optional<double> loss = {}, bits_per_byte = {};
  std::optional<rl::Evaluation> solved = {};
  std::vector<LoggedSample> samples = {};  // of `solved`
};

struct StepReport {
  optim::StepMetrics metrics = {};
  double seconds = 0;       // of the whole step
  double data_seconds = 0;  // of its batch
  std::optional<rl::GrpoMetrics> rollout = {};
  std::optional<Validation> validation = {};
};

class RunReport {
 public:
  // `first_step`: steps done before this process.
  RunReport(const RunFolder& folder, const core::Config& config, const core::ModelConfig& model, int64_t first_step);

  // Opens metrics, samples and events, cut back to the first step.
  absl::Status Open();
  void Add(const StepReport& step);
  // Metrics and samples so far survive a crash of the machine.
  void Sync();
  // A line on stderr, or a table on stdout, above the progress line.
  void Warn(std::string_view text);
  void Print(std::string_view text);
  // Leaves the progress line as it is: no step will follow.
  void EndProgress() { progress_.Finish(); }
  void PrintSummary() const;

 private:
  std::vector<Figure> FiguresOf(const StepReport& step) const;
  absl::Status Record(const StepReport& step);
  absl::Status RecordSamples(const StepReport& step);
  void RecordEvents(const StepReport& step);
  // Says once that a line waits for room on the disk.
  void CheckWritten(const absl::Status& written);
  void ShowProgress(const StepReport& step);
  void ShowSolved(const StepReport& step);

  const RunFolder& folder_;
  const core::Config& config_;
  const core::ModelConfig& model_;
  const core::ModelGraph graph_;
  const int64_t first_step_;
  std::chrono::steady_clock::time_point start_;
  AppendFile metrics_, samples_;
  EventFile events_;
  Progress progress_;
  CollapseWatch watch_;
  std::vector<double> losses_;  // of all steps of the run; in stage grpo their rewards, with a teacher its divergence
  int64_t last_step_;
  std::optional<Validation> last_validation_;
  bool writing_failed_ = false;  // said so
};

}  // namespace conclave::launch
