// SPDX-License-Identifier: Apache-2.0
#include "launch/ranks.h"

#include <sched.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/base/status_macros.h"

namespace conclave::launch {

absl::Status OnFirst(parallel::Job& job, const std::function<absl::Status()>& act) {
  return job.AgreeOn(IsFirst(job) ? act() : absl::OkStatus());
}

absl::StatusOr<std::string> FromFirst(parallel::Job& job, const std::function<absl::StatusOr<std::string>()>& make) {
  absl::StatusOr<std::string> made = std::string();
  if (IsFirst(job)) made = make();
  RETURN_IF_ERROR(job.AgreeOn(made.status()));
  return job.world().GatherTexts(*made)[0];
}

int64_t MaxOverRanks(parallel::Job& job, int64_t value) {
  core::Stream host;
  parallel::Comm& world = job.world();
  world.Wait(host, world.AllReduce(host, core::Tensor(&value, core::DType::kI64, {1}), parallel::Reduction::kMax));
  return value;
}

// Launchers bind ranks to processors of their own, to those of a socket, or not at all.
int ThreadsOfRank(parallel::Job& job, int threads) {
  if (job.world().size() == 1) return threads;  // the device takes all there are
  cpu_set_t own;
  CPU_ZERO(&own);
  ::sched_getaffinity(0, sizeof(own), &own);
  const std::vector<std::string> sets =
      job.world().GatherTexts(std::string_view(reinterpret_cast<const char*>(&own), sizeof(own)));
  int sharing = 0;
  for (int rank = 0; rank < job.world().size(); ++rank) {
    cpu_set_t other, common;
    std::memcpy(&other, sets[rank].data(), sizeof(other));
    CPU_AND(&common, &own, &other);
    sharing += job.hosts()[rank] == job.host() && CPU_COUNT(&common) > 0 ? 1 : 0;
  }
  return threads > 0 ? threads : std::max(CPU_COUNT(&own) / std::max(sharing, 1), 1);
}

}  // namespace conclave::launch
