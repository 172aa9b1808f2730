// SPDX-License-Identifier: Apache-2.0
// `conclave schedule`: a pipeline schedule as a list, as a picture and in numbers, without running it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "parallel/schedule.h"

namespace conclave::launch {

struct ScheduleOptions {
  std::string name;
  int ranks = 0;
  int micro_batches = 0;
  int virtual_stages = 0;    // 0: not given
  std::vector<double> cost;  // F, I, W; perhaps F&B. None: 1, 1, 1
  bool json = false;
};

absl::StatusOr<ExitCode> PrintSchedule(const ScheduleOptions& options);

}  // namespace conclave::launch
