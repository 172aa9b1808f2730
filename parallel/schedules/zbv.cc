// SPDX-License-Identifier: Apache-2.0
// ZB-V: two chunks per rank, placed as a V: rank 0 begins and ends, at the last rank micro-batches turn around and
// their gradients come soon. With W split off and F = I = W, no rank waits between its first and its last action.
// P = 3, M = 5, small letters for the way back:
//
//   F0F1F2F3F4f0i0w0f1i1w1f2i2w2I0W0f3i3w3I1W1f4i4w4I2W2I3W3I4W4....
//   ..F0F1F2f0F3f1i0w0f2i1w1F4I0W0f3i2w2I1W1f4i3w3I2i4I3W2I4w4W3W4..
//   ....F0f0F1f1F2f2i0w0F3I0W0f3i1w1F4I1W1f4i2w2I2i3I3i4I4W2w3W3w4W4
//
// Makespan 2M (F + B) + (P - 1) F if F = I = W and M >= 2P - 2, one F more for each micro-batch less; 2P chunks.
#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> ZeroBubbleV(const ScheduleShape& shape, int rank) {
  const int turn = shape.num_ranks - rank;  // ranks from here to the turn, this one included
  CellList list;
  list.AddLane(rank);
  list.AddLane(2 * shape.num_ranks - 1 - rank);
  const auto forward_down = [&] {
    if (list.num_forward(0) < shape.num_micro) list.Forward(0);
  };
  const auto backward = [&list](int lane) {
    list.BackwardInput(lane);
    list.BackwardWeight();
  };
  for (int i = 0; i < 2 * turn - 1; ++i) forward_down();
  for (int i = 0; i < rank; ++i) {
    list.Forward(1);
    forward_down();
  }
  for (int i = 0; i < turn; ++i) {
    list.Forward(1);
    backward(1);
  }
  while (list.num_forward(1) < shape.num_micro) {
    forward_down();
    backward(0);
    list.Forward(1);
    backward(1);
  }
  for (int i = 0; i < rank; ++i) {  // the way back is free of forwards: inputs first, other ranks wait for them
    list.BackwardInput(0);
    list.BackwardInput(1);
  }
  for (int i = 0; i < turn; ++i) backward(0);
  return std::move(list).Finish();
}

}  // namespace conclave::parallel
