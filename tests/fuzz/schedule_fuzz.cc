// SPDX-License-Identifier: Apache-2.0
// libFuzzer entry for schedules as text: what is read is printed and read back unchanged; a schedule that the validator
// accepts is simulated to its last action.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/base/check.h"
#include "parallel/simulate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace conclave::parallel;
  const auto schedule = ParseSchedule(std::string_view(reinterpret_cast<const char*>(bytes), size));
  if (!schedule.ok()) return 0;
  const auto again = ParseSchedule(ScheduleText(*schedule));
  CHECK(again.ok() && *again == *schedule);
  if (!ValidateSchedule(*schedule).ok()) return 0;
  const Simulation simulation = Simulate(*schedule, {.stages = {{}}});
  for (int rank = 0; rank < schedule->num_ranks; ++rank) {
    CHECK_EQ(simulation.ranks[rank].size(), schedule->cells[rank].size());
  }
  return 0;
}
