// SPDX-License-Identifier: Apache-2.0
// Makes, states the rule of, checks, prints and reads schedules (action.h). ForEachDependency is the only place that
// knows what must happen before what: validator, simulator and executor call it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "parallel/action.h"

namespace conclave::parallel {

inline constexpr const char* kScheduleNames[] = {"1f1b", "interleaved", "zb1p", "zbv", "dualpipe", "dualpipev"};

struct ScheduleShape {
  int num_ranks = 1;
  int num_micro = 1;
  int virtual_stages = 2;  // chunks per rank; interleaved only
};

// Stages in the whole pipeline: ranks x chunks.
int NumStages(std::string_view name, const ScheduleShape& shape);
// Why a schedule of this shape does not exist ("dualpipe needs an even number of micro-batches, not 5; ..."), or OK.
absl::Status CheckShape(std::string_view name, const ScheduleShape& shape);
absl::StatusOr<Schedule> MakeSchedule(std::string_view name, const ScheduleShape& shape);
// Forward passes alone, for validation: any shape that has a placement.
Schedule MakeForwardSchedule(const Schedule& like, int num_micro);

// Calls `visit` with each action that must be over before `action` may begin.
void ForEachDependency(const Schedule& schedule, const Action& action, const std::function<void(const Action&)>& visit);

// Every action exactly once and on its rank, no deadlock when each rank runs its list in order, weights after inputs.
absl::Status ValidateSchedule(const Schedule& schedule);

// A line per rank, cells separated by blanks: "0F0 0F1 0F2&1B0 ...". ParseSchedule reads it back.
std::string ScheduleText(const Schedule& schedule);
absl::StatusOr<Schedule> ParseSchedule(std::string_view text);

// How many micro-batches of each lifetime a rank holds at most, by its chunk (in the order of StagesOf).
struct ChunkSlots {
  int until_input_grad = 0;   // from F to the input gradient
  int until_weight_grad = 0;  // from F to the weight gradient
  bool operator==(const ChunkSlots&) const = default;
};
std::vector<ChunkSlots> CountSlots(const Schedule& schedule, int rank);

}  // namespace conclave::parallel
