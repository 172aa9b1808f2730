// SPDX-License-Identifier: Apache-2.0
// The batches of rejection sampling. All ranks draw; rank 0 stores what was drawn, selects, counts and writes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/exit_code.h"
#include "launch/metrics.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/status_line.h"
#include "parallel/job.h"
#include "rl/rejection.h"
#include "rl/reward/reward_sum.h"
#include "rl/rollout_store.h"
#include "rl/sampler.h"

namespace conclave::launch {

struct RejectionFiles {
  std::string samples, metrics;
};

class RejectionRun {
 public:
  // `config`: of stage reject; `parts`: of it. Collective. What is referred to outlives it.
  static absl::StatusOr<std::unique_ptr<RejectionRun>> Create(const core::Config& config, const RunFolder& folder,
                                                              RejectionFiles files, RunParts& parts,
                                                              parallel::Job& job);

  // Draws what is not stored, and writes the file. How to exit if a signal came first. Collective, errors agreed on.
  absl::StatusOr<std::optional<ExitCode>> Run();

 private:
  RejectionRun(const core::Config& config, RejectionFiles files, RunParts& parts, parallel::Job& job,
               rl::RewardSum rewards, rl::Rejection rejection);
  absl::StatusOr<int64_t> BeginBehindStored();  // how many batches are
  // Of rank 0:
  absl::Status OpenFiles(int64_t stored);
  absl::Status TakeStored(int64_t batch);
  absl::Status Take(int64_t batch, std::span<const rl::Group> groups, double seconds);
  absl::Status Record(int64_t batch, const rl::RejectionCounts& counts, double seconds);
  absl::Status Write();
  absl::Status KeptNothing() const;
  data::Prompt PromptOf(int64_t draw) const { return parts_.prompts->At(draw); }

  const core::Config& config_;
  const RejectionFiles files_;
  RunParts& parts_;
  parallel::Job& job_;
  const int64_t num_batches_;
  const rl::RewardSum rewards_;
  std::unique_ptr<rl::Sampler> sampler_;
  rl::Rejection rejection_;
  std::optional<rl::RolloutStore> store_;
  AppendFile metrics_;
  int64_t recorded_ = 0;  // batches whose line of metrics is there
  StatusLine line_;
  std::chrono::steady_clock::time_point shown_;
  std::string lines_;  // for the file
  rl::RejectionCounts counts_;
};

}  // namespace conclave::launch
