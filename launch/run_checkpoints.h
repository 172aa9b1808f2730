// SPDX-License-Identifier: Apache-2.0
// Between a run and its checkpoints: what is saved, what a resume finds, and whether it may go on from there.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/checkpoint.h"
#include "core/config/config.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "parallel/job.h"

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

// "step 0: new, cpu avx2, 2 threads", of several ranks with their layout.
std::string HistoryLine(const core::Config& config, int64_t step, const RunParts& parts);

struct Resume {
  std::string path;  // of the checkpoint
  core::CheckpointMeta meta;
};

// The following are collective, and their errors agreed on.

// The newest checkpoint that verifies; broken ones are skipped with a warning. An error if there are none but broken
// ones: a new run would cut away what is left of the old.
absl::StatusOr<std::optional<Resume>> FindResume(const RunFolder& folder, parallel::Job& job);

// Whether the config and the place in the data are those of the checkpoint.
absl::Status CheckResume(const Resume& resume, const core::Config& config, parallel::Job& job);

// Each rank reads what it holds. Refuses if the data is no longer that of the run.
absl::StatusOr<RunState> RestoreRun(const Resume& resume, const core::Config& config, RunParts& parts,
                                    parallel::Job& job);

class CheckpointWriter {
 public:
  // Shares the weights out: each is written by one of the ranks that hold it.
  CheckpointWriter(const RunFolder& folder, const core::Config& config, std::string version, const RunParts& parts,
                   parallel::Job& job);

  // Writes and re-reads step_N, each rank its part, then deletes checkpoints beyond train.keep. Returns its path.
  absl::StatusOr<std::string> Save(const RunState& state) const;
  // The ranks hold other weights than before. Collective.
  void ShareWeights();

 private:
  core::CheckpointMeta Meta(const RunState& state) const;
  core::SaveRequest Request(const RunState& state) const;
  // Gives those of `weights` that no rank holds whole, by name, their memory: as long as what is returned. Collective.
  std::map<std::string, std::vector<float>> GatherWeights(std::vector<core::StateTensor>& weights) const;

  const RunFolder& folder_;
  const core::Config& config_;
  const std::string version_;
  const RunParts& parts_;
  parallel::Job& job_;
  std::vector<core::StateTensor> weights_;  // that this rank writes
};

}  // namespace conclave::launch
