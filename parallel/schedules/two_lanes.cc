// SPDX-License-Identifier: Apache-2.0
// What a rank of DualPipe and DualPipeV does: the same list, on lanes that are placed differently. Small letters for
// lane 1; h = position, H = depth, n = micro-batches of a lane:
//
//   fill     2 (H - h - 1) times F       h + 1 times F f      H - h - 1 times i w f
//   overlap  n - 2H + h + 1 times F&b f&B                     H - h - 1 times b f&B
//   empty    h + 1 times b B, of these 2 (h + 1) the second half without W
//            H - h - 1 times W I         h + 1 times W
//
// Where the lanes meet, the first pair runs one after the other: the other side waits for its F, so F must not wait for
// the end of the pair.
#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> TwoLanes(CellList list, int position, int depth, int num_micro) {
  const int behind = depth - 1 - position;
  for (int i = 0; i < 2 * behind; ++i) list.Forward(0);
  for (int i = 0; i < position + 1; ++i) {
    list.Forward(0);
    list.Forward(1);
  }
  for (int i = 0; i < behind; ++i) {
    list.BackwardInput(1);
    list.BackwardWeight();
    list.Forward(1);
  }
  for (int i = 0; i < num_micro - 2 * depth + position + 1; ++i) {
    if (i == 0 && behind == 0) {
      list.Forward(0);
      list.Backward(1);
    } else {
      list.Overlap(0, 1);
    }
    list.Overlap(1, 0);
  }
  for (int i = 0; i < behind; ++i) {
    list.Backward(1);
    list.Overlap(1, 0);
  }
  for (int i = 0; i < 2 * (position + 1); ++i) {
    const int lane = i % 2 == 0 ? 1 : 0;
    if (i <= position) {
      list.Backward(lane);
    } else {
      list.BackwardInput(lane);
    }
  }
  for (int i = 0; i < behind; ++i) {
    list.BackwardWeight();
    list.BackwardInput(0);
  }
  return std::move(list).Finish();
}

}  // namespace conclave::parallel
