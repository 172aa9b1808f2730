// SPDX-License-Identifier: Apache-2.0
// 1F1B: as many forwards as it takes until the first gradient comes back, then one forward, one backward. A rank holds
// P - r micro-batches instead of all. P = 4, M = 6, a column is half a forward:
//
//   F0F1F2F3............B0--F4B1--F5B2--..B3--..B4--..B5--
//   ..F0F1F2........B0--F3B1--F4B2--F5B3--..B4--..B5--....
//   ....F0F1....B0--F2B1--F3B2--F4B3--F5B4--..B5--........
//   ......F0B0--F1B1--F2B2--F3B3--F4B4--F5B5--............
//
// Makespan M (F + B) + (P - 1)(F + B).
#include <algorithm>

#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> OneForwardOneBackward(const ScheduleShape& shape, int rank) {
  CellList list;
  list.AddLane(rank);
  const int ahead = std::min(shape.num_ranks - 1 - rank, shape.num_micro);
  for (int i = 0; i < ahead; ++i) list.Forward(0);
  for (int micro = 0; micro < shape.num_micro; ++micro) {
    if (list.num_forward(0) < shape.num_micro) list.Forward(0);
    list.Backward(0);
  }
  return std::move(list).Finish();
}

}  // namespace conclave::parallel
