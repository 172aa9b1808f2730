// SPDX-License-Identifier: Apache-2.0
// ZB-H1 (ZB1P): no bubble of weight gradients, in the memory of 1F1B. F and I come in the order of 1F1B, but W waits:
// rank r puts it off by r micro-batches, so gradients reach the ranks before it sooner, and what was put off fills the
// end. Every rank holds P micro-batches until the weight gradient, P - r until the input gradient. P = 4, M = 8:
//
//   F0F1F2F3......I0W0F4I1W1F5I2W2F6I3W3F7I4W4I5W5I6W6I7W7
//   ..F0F1F2....I0F3I1W0F4I2W1F5I3W2F6I4W3F7I5W4I6W5I7W6W7
//   ....F0F1..I0F2I1F3I2W0F4I3W1F5I4W2F6I5W3F7I6W4I7W5W6W7
//   ......F0I0F1I1F2I2F3I3W0F4I4W1F5I5W2F6I6W3F7I7W4W5W6W7
//
// Makespan M (F + B) + (P - 1)(F + B - 2W) if W <= F and W <= I.
#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> ZeroBubbleH1(const ScheduleShape& shape, int rank) {
  CellList list;
  list.AddLane(rank);
  for (int i = 0; i < shape.num_ranks - 1 - rank; ++i) list.Forward(0);
  for (int micro = 0; micro < shape.num_micro; ++micro) {
    if (list.num_forward(0) < shape.num_micro) list.Forward(0);
    list.BackwardInput(0);
    if (micro >= rank) list.BackwardWeight();
  }
  return std::move(list).Finish();
}

}  // namespace conclave::parallel
