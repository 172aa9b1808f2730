// SPDX-License-Identifier: Apache-2.0
// How far the reading of data is: one changing line on stderr, and none at all while it takes less than half a second.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "data/load_options.h"
#include "launch/status_line.h"

namespace conclave::launch {

// "tokenizing [#########...........] 45%  123.4 MB/s  ETA 0:12  data/train.jsonl"; `seconds` and `bytes` are those of
// this reading.
std::string LoadText(const data::LoadProgress& progress, double seconds, int64_t bytes);

// Ctrl-C (signals.h) stops the loading, and nothing is shown of it.
data::LoadOptions QuietLoadOptions(int threads);

class LoadDisplay {
 public:
  ~LoadDisplay() { line_.Clear(); }

  // The same, with reports that come here. Outlived by this object.
  data::LoadOptions Options(int threads);

 private:
  using Clock = std::chrono::steady_clock;
  void Update(const data::LoadProgress& progress);

  StatusLine line_{STDERR_FILENO};
  data::LoadProgress current_;  // as it was when its phase or source began
  Clock::time_point start_, last_shown_;
};

}  // namespace conclave::launch
