// SPDX-License-Identifier: Apache-2.0
// A wrong command line or config file as a status of its own kind: its exit code is 2, so that scripts
// can tell "trying again cannot help" from a failure. The kind survives every return on the way.
#pragma once

#include <string_view>

#include "absl/status/status.h"

#include "launch/exit_code.h"

namespace conclave::launch {

// `message` names the option: "--prompt-ids: ...".
absl::Status UsageError(std::string_view message);
// The same failure, as one of usage; success stays success.
absl::Status AsUsageError(absl::Status status);

bool IsUsageError(const absl::Status& status);

// Says on standard error what failed, unless other ranks have; returns how to exit.
ExitCode ReportError(const absl::Status& status);

}  // namespace conclave::launch
