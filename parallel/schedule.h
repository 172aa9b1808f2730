// SPDX-License-Identifier: Apache-2.0
// Makes, checks, prints and reads schedules (action.h). What must happen before what stands in schedule_order.h.
#pragma once

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

// Why a schedule of this shape does not exist ("dualpipe needs an even number of micro-batches, not 9"), or OK.
absl::Status CheckShape(std::string_view name, const ScheduleShape& shape);
// Stages in the whole pipeline: ranks x chunks. The shape must be legal.
int NumStages(std::string_view name, const ScheduleShape& shape);
absl::StatusOr<Schedule> MakeSchedule(std::string_view name, const ScheduleShape& shape);
// Forward passes alone, on the stages of `like`, for any num_micro >= 1. Two copies share them: the first num_micro /
// 2, rounded down, enter at rank 0.
Schedule MakeForwardSchedule(const Schedule& like, int num_micro);

// Every action exactly once and on its rank, and no deadlock when each rank runs its list in order and sends are
// buffered (MaxMessagesInFlight says how far). Weights come after inputs, backward after forward.
absl::Status ValidateSchedule(const Schedule& schedule);

// A line for the shape, then one per rank, cells separated by blanks: "0F0 0F1 0F2&0B0 ...". ParseSchedule reads it
// back; its errors name line and column. What it reads is well-formed; whether it is valid, ValidateSchedule says.
std::string ActionText(const Action& action);
std::string CellText(const Cell& cell);
std::string ScheduleText(const Schedule& schedule);
absl::StatusOr<Schedule> ParseSchedule(std::string_view text);

// How many micro-batches of each lifetime are alive at most. In an overlapped cell the forward begins before the
// backward ends.
struct Slots {
  int until_input_grad = 0;   // from F to the input gradient
  int until_weight_grad = 0;  // from F to the weight gradient
  bool operator==(const Slots&) const = default;
};
struct RankSlots {
  std::vector<Slots> chunks;  // in the order of StagesOf: what an executor allocates
  Slots together;             // the peak of their sum, which may be less than the sum of their peaks
};
RankSlots CountSlots(const Schedule& schedule, int rank);

}  // namespace conclave::parallel
