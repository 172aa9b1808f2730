// SPDX-License-Identifier: Apache-2.0
// What a run says on stdout before its first step and after its last.
#pragma once

#include <string>
#include <string_view>

#include "core/config/config.h"
#include "launch/run_parts.h"
#include "parallel/job.h"

namespace conclave::launch {

void PrintLine(std::string_view text);

// "label      text", the label in bold. An empty label goes on with what stands above.
void PrintLabelled(std::string_view label, std::string_view text);

// By rank 0, of all ranks: collective. `start`: "new run", or where it resumes.
void PrintBanner(const core::Config& config, const RunParts& parts, const std::string& start,
                 const std::string& version, parallel::Job& job);

}  // namespace conclave::launch
