// SPDX-License-Identifier: Apache-2.0
// Interleaved 1F1B: rank r holds the chunks r, r + P, r + 2P, ...; micro-batches go round in groups of P, so a rank
// changes to its next chunk after P of them. A chunk is a part of the work, and the bubble is counted in chunks.
// P = 2, M = 4, two chunks, the second in small letters:
//
//   F0F1f0f1F2..b0--F3b1--f2B0--f3B1--..b2--..b3--B2--B3--
//   ..F0F1f0b0--f1b1--F2B0--F3B1--f2b2--f3b3--B2--B3--....
//
// Makespan M V (F + B) + (P - 1)(F + B), F and B of a chunk; (V + 1) P - 1 chunks on rank 0.
#include <algorithm>

#include "parallel/schedules/schedules.h"

namespace conclave::parallel {

std::vector<Cell> Interleaved(const ScheduleShape& shape, int rank) {
  const int num_ranks = shape.num_ranks, chunks = shape.virtual_stages, total = shape.num_micro * chunks;
  CellList list;
  for (int chunk = 0; chunk < chunks; ++chunk) list.AddLane(chunk * num_ranks + rank);
  const int ahead = std::min(2 * (num_ranks - 1 - rank) + (chunks - 1) * num_ranks, total);
  for (int i = 0; i < total + ahead; ++i) {
    if (i < total) list.Forward(i / num_ranks % chunks);
    if (i >= ahead) list.Backward(chunks - 1 - (i - ahead) / num_ranks % chunks);
  }
  return std::move(list).Finish();
}

}  // namespace conclave::parallel
