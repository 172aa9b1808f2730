// SPDX-License-Identifier: Apache-2.0
// The mark is a payload of the status.
#include "launch/usage_error.h"

#include <string>
#include <utility>

#include "absl/strings/cord.h"

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

}  // namespace conclave::launch
