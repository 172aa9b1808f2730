// SPDX-License-Identifier: Apache-2.0
// Foreign JSON as a tree, with the checks of json.h.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"

#include "core/base/json.h"

namespace conclave::core {

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const JsonSource& source, const JsonLimits& limits);

}  // namespace conclave::core
