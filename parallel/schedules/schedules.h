// SPDX-License-Identifier: Apache-2.0
// The list of one rank under each schedule; each stands in a file of its own, with its picture. Shapes must be legal
// (CheckShape).
#pragma once

#include <vector>

#include "parallel/schedule.h"
#include "parallel/schedules/cell_list.h"

namespace conclave::parallel {

std::vector<Cell> OneForwardOneBackward(const ScheduleShape& shape, int rank);
std::vector<Cell> Interleaved(const ScheduleShape& shape, int rank);
std::vector<Cell> ZeroBubbleH1(const ScheduleShape& shape, int rank);
std::vector<Cell> ZeroBubbleV(const ScheduleShape& shape, int rank);
std::vector<Cell> DualPipe(const ScheduleShape& shape, int rank);
std::vector<Cell> DualPipeV(const ScheduleShape& shape, int rank);

// What DualPipe and DualPipeV share: a rank with two lanes. Lane 0 enters `position` ranks before this one, and `depth`
// ranks lead from there to where it meets lane 1, which comes the other way. num_micro: of each lane.
std::vector<Cell> TwoLanes(CellList list, int position, int depth, int num_micro);

}  // namespace conclave::parallel
