// SPDX-License-Identifier: Apache-2.0
// Schedules of many shapes for tests: every name on up to eight ranks, with as many micro-batches as make a difference;
// and messages.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "parallel/schedule.h"

namespace conclave::parallel {

inline bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

// Must be legal.
inline Schedule Make(const std::string& name, const ScheduleShape& shape) {
  absl::StatusOr<Schedule> schedule = MakeSchedule(name, shape);
  EXPECT_TRUE(schedule.ok()) << name << ": " << schedule.status();
  return schedule.ok() ? *std::move(schedule) : Schedule{};
}

inline std::string Describe(const Schedule& schedule) {
  return schedule.name + " P " + std::to_string(schedule.num_ranks) + " M " + std::to_string(schedule.num_micro) +
         " stages " + std::to_string(schedule.num_stages);
}

inline std::vector<Schedule> SchedulesOf(const std::string& name) {
  std::vector<Schedule> schedules;
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (int micro = 1; micro <= 3 * ranks + 2; ++micro) {
      for (int chunks = 2; chunks <= (name == "interleaved" ? 3 : 2); ++chunks) {
        const ScheduleShape shape{ranks, micro, chunks};
        if (CheckShape(name, shape).ok()) schedules.push_back(Make(name, shape));
      }
    }
  }
  return schedules;
}

inline std::vector<Schedule> AllSchedules() {
  std::vector<Schedule> all;
  for (const char* name : kScheduleNames) {
    for (Schedule& schedule : SchedulesOf(name)) all.push_back(std::move(schedule));
  }
  return all;
}

}  // namespace conclave::parallel
