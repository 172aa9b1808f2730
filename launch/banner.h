// SPDX-License-Identifier: Apache-2.0
// What a run says on stdout before its first step and after its last.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/config/config.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"

namespace conclave::launch {

void PrintLine(std::string_view text);

// `resumed_from`: path of a checkpoint, empty for a new run.
void PrintBanner(const RunFolder& folder, const core::Config& config, const RunParts& parts,
                 const std::string& resumed_from);

}  // namespace conclave::launch
