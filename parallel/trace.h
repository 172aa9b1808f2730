// SPDX-License-Identifier: Apache-2.0
// The traces of all ranks as one: a common time zero, one file, a process per rank that is called by its place in the
// mesh. Cells have the names of `conclave schedule`.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/trace.h"
#include "parallel/comm.h"
#include "parallel/layout.h"

namespace conclave::parallel {

// Collective. All ranks leave a barrier at nearly the same instant: the end of the shortest of some is time zero, and
// by how much it can differ, the time that this barrier took on the slowest rank, is noted.
void StartTrace(core::Trace& trace, Comm& all);

struct GatheredTrace {
  std::string text;                        // of the file, on rank 0; empty elsewhere
  int64_t num_spans = 0, num_dropped = 0;  // of all ranks, on all ranks
};

// Collective over the ranks of the layout.
GatheredTrace GatherTrace(const core::Trace& trace, const Layout& layout);

}  // namespace conclave::parallel
