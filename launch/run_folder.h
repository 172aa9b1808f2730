// SPDX-License-Identifier: Apache-2.0
// run.dir: config.yaml (resolved), metrics.jsonl, samples.jsonl (empty without held-out problems), report.html,
// profile.jsonl (train --profile), tb/, checkpoints/, rollouts/ (stages grpo, reject, distill), data/ (reject,
// distill). One job at a time works in it: its rank 0 holds a lock on .lock that the system drops when the process
// ends, however it ends.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "core/config/config.h"

namespace conclave::launch {

class RunFolder {
 public:
  // Makes the folder if needed, locks it, and clears away what killed processes left half-written; the error names the
  // process that holds it.
  static absl::StatusOr<RunFolder> Open(const std::string& dir);
  // For reading alone, or on the other ranks of the job that holds it: neither made nor locked.
  static RunFolder At(std::string dir) { return RunFolder(std::move(dir), core::FileDescriptor()); }

  const std::string& dir() const { return dir_; }
  std::string ConfigPath() const { return dir_ + "/config.yaml"; }
  std::string MetricsPath() const { return dir_ + "/metrics.jsonl"; }
  std::string SamplesPath() const { return dir_ + "/samples.jsonl"; }
  std::string ReportPath() const { return dir_ + "/report.html"; }
  std::string ProfilePath() const { return dir_ + "/profile.jsonl"; }
  std::string RolloutsPath() const { return dir_ + "/rollouts"; }
  std::string DataPath() const { return dir_ + "/data"; }
  std::string RejectPath() const { return DataPath() + "/reject.jsonl"; }
  std::string TeacherSamplesPath() const { return DataPath() + "/teacher.jsonl"; }
  std::string TeacherMetricsPath() const { return DataPath() + "/teacher_metrics.jsonl"; }
  std::string EventsPath() const { return dir_ + "/tb"; }
  std::string CheckpointsPath() const { return dir_ + "/checkpoints"; }

  // Replaces config.yaml at one instant.
  absl::Status StoreConfig(const core::Config& config) const;

 private:
  RunFolder(std::string dir, core::FileDescriptor lock) : dir_(std::move(dir)), lock_(std::move(lock)) {}

  std::string dir_;
  core::FileDescriptor lock_;
};

// Whether `now` may continue the run of `before`: an error lists the keys that differ. Keys that only say how long a
// run takes, what it reports and how it is cut into micro-batches may differ; a recipe's folder may have been moved.
absl::Status CheckContinues(const core::Config& before, const core::Config& now);

}  // namespace conclave::launch
