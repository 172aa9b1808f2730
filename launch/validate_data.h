// SPDX-License-Identifier: Apache-2.0
// `conclave train CONFIG --validate-data`: reads all data once, says what is in it and what is wrong with it, trains
// nothing and writes nothing.
#pragma once

#include "absl/status/statusor.h"

#include "launch/exit_code.h"
#include "launch/train.h"

namespace conclave::launch {

// kDone if a run could start with this data.
absl::StatusOr<ExitCode> ValidateData(const TrainOptions& options);

}  // namespace conclave::launch
