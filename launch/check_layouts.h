// SPDX-License-Identifier: Apache-2.0
// `conclave check-layouts`: trains a user's own config a few steps in every layout of up to N ranks, as threads of this
// process, and says which end in the same bits.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct CheckLayoutsOptions {
  std::string config;
  std::vector<std::string> overrides;
  int64_t ranks = 4;
  int64_t steps = 2;
};

// kFailed if a layout changes a bit.
absl::StatusOr<ExitCode> CheckLayouts(const CheckLayoutsOptions& options);

}  // namespace conclave::launch
