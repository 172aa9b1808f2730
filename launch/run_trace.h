// SPDX-License-Identifier: Apache-2.0
// `conclave train --trace FILE`: what all ranks do, as one file of trace events.
#pragma once

#include <string>

#include "absl/status/status.h"

#include "launch/run_parts.h"
#include "parallel/job.h"

namespace conclave::launch {

// Before the run: that the file can be written. Collective.
absl::Status CheckTraceFile(const std::string& path, parallel::Job& job);
// After it. A file that cannot be written is a warning, as the run itself is done. Collective.
void WriteTrace(const std::string& path, const RunParts& parts, parallel::Job& job);

}  // namespace conclave::launch
