// SPDX-License-Identifier: Apache-2.0
// DualPipeV: DualPipe cut in half and folded. Two chunks per rank, placed as a V: what turns around at the last rank
// takes the place of what enters at the other end, so each stage exists once, and embedding and head share rank 0.
// P = 2, M = 5, small letters for the way back:
//
//   F0F1F2f0i0w0f1F3&b1..f2&B0F4&b2f3&B1b3--.f4&B2b4--I3W3I4W4
//   ..F0f0F1f1F2b0--f2&B0F3&b1f3&B1F4&b2f4&B2b3--B3--.i4I4w4W4
//
// Makespan with F = I = W: 2M (F + B) - (2M - 2P - 1)(F + B - F&B) + (P - 1)(F&B + B - 3W); 2P + 1 chunks.
#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> DualPipeV(const ScheduleShape& shape, int rank) {
  CellList list;
  list.AddLane(rank);
  list.AddLane(2 * shape.num_ranks - 1 - rank);
  return TwoLanes(std::move(list), rank, shape.num_ranks, shape.num_micro);
}

}  // namespace conclave::parallel
