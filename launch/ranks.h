// SPDX-License-Identifier: Apache-2.0
// What commands that run on many ranks share. Rank 0 owns the run folder and speaks for all; whatever one rank alone
// can fail at is agreed on before the next step, so that all go on or all end. Everything here is collective.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

#include "parallel/job.h"

namespace conclave::launch {

inline bool IsFirst(parallel::Job& job) { return job.world().rank() == 0; }

// Done by rank 0; its error is one of all ranks.
absl::Status OnFirst(parallel::Job& job, const std::function<absl::Status()>& act);
// What rank 0 makes, on every rank.
absl::StatusOr<std::string> FromFirst(parallel::Job& job, const std::function<absl::StatusOr<std::string>()>& make);

int64_t MaxOverRanks(parallel::Job& job, int64_t value);

// `threads`, or for 0 the processors that this rank may use, divided by the ranks that may use them too; one rank alone
// keeps the 0.
int ThreadsOfRank(parallel::Job& job, int threads);

}  // namespace conclave::launch
