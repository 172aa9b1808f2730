// SPDX-License-Identifier: Apache-2.0
// How a stage came to be what it is: its figures and its samples by step, read from metrics.jsonl and samples.jsonl.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "launch/report/series.h"
#include "launch/sample_log.h"
#include "launch/stage_scores.h"

namespace conclave::launch {

struct StageHistory {
  int64_t last_step = 0;
  int64_t last_written = 0;               // when metrics.jsonl was: seconds since 1970; 0: there is none
  std::map<std::string, Series> figures;  // by name in metrics.jsonl; those that curves show, where they are not null
  std::vector<SampleLogLine> samples;     // those of the final scores last

  // Empty if the stage has none of that name.
  const Series& Figure(std::string_view name) const;
};

// Of a stage that may not have begun. `scores`: its final ones.
absl::StatusOr<StageHistory> ReadHistory(const core::Config& config, const std::optional<StageScores>& scores);

}  // namespace conclave::launch
