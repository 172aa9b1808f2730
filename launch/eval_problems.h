// SPDX-License-Identifier: Apache-2.0
// `conclave eval` on problems with answers: one greedy response to each, and several samples. The run that made a
// checkpoint says how they are asked, drawn and scored, so the figures are those that it printed, bit for bit, on any
// ranks.
#pragma once

#include "absl/status/statusor.h"

#include "launch/eval.h"
#include "launch/exit_code.h"
#include "parallel/job.h"

namespace conclave::launch {

// Collective.
absl::StatusOr<ExitCode> EvalProblems(const EvalOptions& options, parallel::Job& job);

}  // namespace conclave::launch
