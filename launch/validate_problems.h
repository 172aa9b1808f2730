// SPDX-License-Identifier: Apache-2.0
// --validate-data of stages sft and grpo: problems with their answers, samples, and whether what is held out is trained
// on.
#pragma once

#include "absl/status/status.h"

#include "core/config/config.h"
#include "data/load_options.h"
#include "data/tokenizer.h"
#include "launch/data_report.h"

namespace conclave::launch {

// Errors are those of a signal that asks to stop; what is wrong with the data goes into the report.
absl::Status ValidateProblems(const core::Config& config, const data::Tokenizer& tokenizer, DataReport& report);
absl::Status ValidateSamples(const core::Config& config, const data::Tokenizer& tokenizer,
                             const data::LoadOptions& options, DataReport& report);

}  // namespace conclave::launch
