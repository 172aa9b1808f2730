// SPDX-License-Identifier: Apache-2.0
// A whole file of a tokenizer in memory, with a bound.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace conclave::data {

inline constexpr uintmax_t kMaxSmallFileBytes = uintmax_t{256} << 20;

// Errors start with the path.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

}  // namespace conclave::data
