// SPDX-License-Identifier: Apache-2.0
// DualPipe (DeepSeek-V3, section 3.2.1): micro-batches enter at both ends, so a rank has forwards of one direction to
// run with backwards of the other, the exchanges of one behind the compute of the other. It takes a second copy of
// every stage. P = 4, M = 8, small letters for what enters at the last rank:
//
//   F0F1F2f4i4w4f5F3&b5..f6&B0b6--.f7&B1b7--I2W2I3W3
//   ..F0f4F1f5F2b4--f6&B0F3&b5f7&B1b6--B2--.i7I3w7W3
//   ..f4F0f5F1f6B0--F2&b4f7&B1F3&b5B2--b6--.I3i7W3w7
//   f4f5f6F0I0W0F1f7&B1..F2&b4B2--.F3&b5B3--i6w6i7w7
//
// Makespan with F = I = W: M (F + B) - (M - P - 1)(F + B - F&B) + (P / 2 - 1)(F&B + B - 3W); P + 1 micro-batches.
#include <algorithm>

#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> DualPipe(const ScheduleShape& shape, int rank) {
  const int last = shape.num_ranks - 1, half = shape.num_micro / 2;
  const bool upper = rank > last - rank;  // nearer to the last rank: micro-batches of its end are lane 0
  const int position = std::min(rank, last - rank);
  CellList list;
  list.AddLane(position, upper ? half : 0);
  list.AddLane(last - position, upper ? 0 : half);
  return TwoLanes(std::move(list), position, shape.num_ranks / 2, half);
}

}  // namespace conclave::parallel
