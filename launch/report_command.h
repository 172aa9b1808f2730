// SPDX-License-Identifier: Apache-2.0
// `conclave report`: writes report.html of a run or a recipe anew from its folder, while it goes on, too, and prints
// what a recipe has reached.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "launch/exit_code.h"

namespace conclave::launch {

struct ReportOptions {
  std::string dir;  // run folder, of one run or of a recipe
};

absl::StatusOr<ExitCode> MakeReport(const ReportOptions& options);

}  // namespace conclave::launch
