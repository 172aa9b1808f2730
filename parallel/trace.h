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

// Collective. All ranks leave a barrier at nearly the same instant: that is time zero. By how much it can differ is the
// time that a barrier takes, and noted.
void StartTrace(core::Trace& trace, Comm& all);

struct GatheredTrace {
  std::string text;                        // of the file, on rank 0; empty elsewhere
  int64_t num_spans = 0, num_dropped = 0;  // of all ranks, on all ranks
};

// Collective over the ranks of the layout.
GatheredTrace GatherTrace(const core::Trace& trace, const Layout& layout);

}  // namespace conclave::parallel
