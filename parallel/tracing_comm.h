// SPDX-License-Identifier: Apache-2.0
// A transport whose operations are recorded: each as an exchange from its begin to the end of its wait, and the time
// inside Wait and Barrier as a wait.
#pragma once

#include <memory>

#include "core/base/trace.h"
#include "parallel/comm.h"

namespace conclave::parallel {

// Groups that are split off are recorded, too. The trace outlives them, and belongs to the thread that calls.
std::unique_ptr<Comm> MakeTracingComm(std::unique_ptr<Comm> inner, core::Trace& trace);

}  // namespace conclave::parallel
