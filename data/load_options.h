// SPDX-License-Identifier: Apache-2.0
// How reading data shares the machine with the rest of a program: threads, reports of progress, and a way to stop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace conclave::data {

struct LoadProgress {
  enum class Phase { kHashing, kTokenizing, kVerifying, kWaiting };  // kWaiting: for a process that tokenizes the same
  Phase phase = Phase::kHashing;
  std::string source;  // path, as in the config
  int64_t bytes_done = 0, bytes_total = 0;
};

struct LoadOptions {
  int threads = 1;  // 0: all processors this process may use
  // Both may be empty; called often, on the thread that loads.
  std::function<void(const LoadProgress&)> on_progress = {};
  std::function<bool()> should_stop = {};
};

// Tells of the progress; a Cancelled error if it is time to stop.
absl::Status Report(const LoadOptions& options, const LoadProgress& progress);

int NumThreads(const LoadOptions& options);

}  // namespace conclave::data
