// SPDX-License-Identifier: Apache-2.0
#include "core/base/json_tree.h"

#include "core/base/json_tree_builder.h"
#include "core/base/status_macros.h"

namespace conclave::core {

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const JsonSource& source, const JsonLimits& limits) {
  JsonTreeBuilder builder;
  RETURN_IF_ERROR(ReadJson(text, source, limits, builder));
  return builder.Take();
}

}  // namespace conclave::core
