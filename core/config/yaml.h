// SPDX-License-Identifier: Apache-2.0
// Strict YAML: the only place that knows yaml-cpp. Unknown key (names the nearest), duplicate key, wrong type: an error
// "file:line:column: ..." that says what to do. No anchors, aliases, tags or several documents; at most 1 MiB, depth 32.
#pragma once

#include <span>
#include <vector>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/config/config.h"

namespace conclave::core {

// Reads a file, applies overrides of the form "a.b=c" (values in YAML; list entries as a.0.b) and validates.
absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides);

// The same from text; `name` stands in messages.
absl::StatusOr<Config> ParseConfig(std::string_view text, const std::string& name, std::span<const std::string> overrides);

// All keys with their values, in the order of VisitFields: reads back to the same Config.
std::string WriteConfig(const Config& config);

// Key paths whose values differ: "optim.lr: 0.001 -> 0.002", one per entry.
std::vector<std::string> DifferingKeys(const Config& a, const Config& b);

}  // namespace conclave::core
