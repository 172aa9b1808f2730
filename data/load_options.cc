// SPDX-License-Identifier: Apache-2.0
#include "data/load_options.h"

#include <sched.h>

#include <algorithm>

#include "absl/strings/str_format.h"

namespace conclave::data {

absl::Status Report(const LoadOptions& options, const LoadProgress& progress) {
  if (options.on_progress) options.on_progress(progress);
  if (!options.should_stop || !options.should_stop()) return absl::OkStatus();
  return absl::CancelledError(absl::StrFormat("stopped while reading %s", progress.source));
}

int NumThreads(const LoadOptions& options) {
  if (options.threads > 0) return options.threads;
  cpu_set_t usable;
  return ::sched_getaffinity(0, sizeof(usable), &usable) == 0 ? std::max(CPU_COUNT(&usable), 1) : 1;
}

}  // namespace conclave::data
