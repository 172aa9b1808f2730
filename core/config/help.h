// SPDX-License-Identifier: Apache-2.0
// `conclave help KEY` and the reference page of all options, from the same list of fields as the reader.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace conclave::core {

// Type, unit, default and meaning of a key such as "optim.lr" or "data.train.0.path"; for a group the list of its keys;
// "" = all groups. The error for an unknown key names the nearest one. Ends with a line break.
absl::StatusOr<std::string> HelpForKey(std::string_view path);

// All keys in Markdown, one table per group; the tables' headings are of the third level.
std::string KeyTables();

}  // namespace conclave::core
