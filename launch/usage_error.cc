// SPDX-License-Identifier: Apache-2.0
// The mark is a payload of the status.
#include "launch/usage_error.h"

#include <stdio.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "absl/strings/cord.h"

#include "core/base/terminal.h"
#include "parallel/job.h"

namespace conclave::launch {
namespace {
constexpr char kMark[] = "conclave/usage";
}  // namespace

absl::Status UsageError(std::string_view message) {
  return AsUsageError(absl::InvalidArgumentError(std::string(message)));
}

absl::Status AsUsageError(absl::Status status) {
  status.SetPayload(kMark, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) { return status.GetPayload(kMark).has_value(); }

ExitCode ReportError(const absl::Status& status) {
  if (!parallel::IsReported(status)) {
    const std::string label = core::Styled(STDERR_FILENO, core::Style::kRed, "error: ");
    fputs((label + std::string(status.message()) + "\n").c_str(), stderr);
  }
  return IsUsageError(status) ? ExitCode::kUsage : ExitCode::kFailed;
}

}  // namespace conclave::launch
