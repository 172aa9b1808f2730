// SPDX-License-Identifier: Apache-2.0
// Stage reject, and the first half of stage distill: a model answers prompts, batch after batch, and what a verifier
// finds right becomes a file of samples for fine-tuning. Batches are kept as rollouts: a run that was killed goes on
// behind the last one. The file appears when it is complete, so a file that is there is done.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/exit_code.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/train.h"
#include "parallel/job.h"

namespace conclave::launch {

// The following are collective, and their errors agreed on.

// Stage reject, from its config to run.dir/data/reject.jsonl.
absl::StatusOr<ExitCode> Reject(const RunFolder& folder, core::Config config, const TrainOptions& options,
                                parallel::Job& job);

// Of stage distill: sees to it that run.dir/data/teacher.jsonl is there, which its loader reads. How to exit if
// training shall not begin. `student`: its tokenizer and the config of its model.
absl::StatusOr<std::optional<ExitCode>> PrepareTeacherSamples(const RunFolder& folder, const core::Config& config,
                                                              const RunParts& student, const TrainOptions& options,
                                                              parallel::Job& job);

}  // namespace conclave::launch
