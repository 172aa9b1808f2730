// SPDX-License-Identifier: Apache-2.0
// Between a run and its checkpoints: what is saved, what a resume finds, and whether it may go on from there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/checkpoint.h"
#include "core/config/config.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"

namespace conclave::launch {

// All that a run carries from step to step, besides weights and moments.
struct RunState {
  int64_t step = 0;           // steps done
  int64_t data_position = 0;  // rows drawn
  std::string sample_chain;   // hash over the ids of all rows drawn, in order
  std::vector<std::string> history;
};

// Appends the rows of one step to the chain.
std::string ExtendSampleChain(const std::string& chain, const std::vector<int64_t>& row_ids);

// "step 0: new, cpu avx2, 2 threads"
std::string HistoryLine(const core::Config& config, int64_t step, const std::string& device);

struct Resume {
  std::string path;  // of the checkpoint
  core::CheckpointMeta meta;
};

// The newest checkpoint that verifies; broken ones are skipped with a warning.
absl::StatusOr<std::optional<Resume>> FindResume(const RunFolder& folder);

// Whether the config and the place in the data are those of the checkpoint.
absl::Status CheckResume(const Resume& resume, const core::Config& config);

// Refuses if the data is no longer that of the run.
absl::StatusOr<RunState> RestoreRun(const Resume& resume, const core::Config& config, RunParts& parts);

class CheckpointWriter {
 public:
  CheckpointWriter(const RunFolder& folder, const core::Config& config, std::string version, const RunParts& parts)
      : folder_(folder), config_(config), version_(std::move(version)), parts_(parts) {}

  // Writes and re-reads step_N, then deletes checkpoints beyond train.keep. Returns its path.
  absl::StatusOr<std::string> Save(const RunState& state) const;

 private:
  core::CheckpointMeta Meta(const RunState& state) const;

  const RunFolder& folder_;
  const core::Config& config_;
  const std::string version_;
  const RunParts& parts_;
};

}  // namespace conclave::launch
