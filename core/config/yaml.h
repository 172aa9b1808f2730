// SPDX-License-Identifier: Apache-2.0
// Strict YAML to Config and back. Unknown key (names the nearest), duplicate key, wrong type: an error
// "file:line:column: ..." that says what to do. No anchors, aliases, tags or several documents; at most 256 KiB,
// depth 32.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"

namespace conclave::core {

// Reads a file, applies overrides of the form "a.b=c" (values in YAML; list entries as a.0.b, or by their name) and validates. Errors of
// the file stand together, one per line, each with its place; those of overrides name the override.
absl::StatusOr<Config> LoadConfig(const std::string& path, std::span<const std::string> overrides);

// The same from text; `name` stands in messages.
absl::StatusOr<Config> ParseConfig(std::string_view text, const std::string& name,
                                   std::span<const std::string> overrides);

// All keys with their values, in the order of VisitFields: reads back to the same Config. A model with `from` is
// written as that alone: its folder decides the rest.
std::string WriteConfig(const Config& config);

// Key paths whose values differ: "optim.lr: 0.001 -> 0.002", one per entry.
std::vector<std::string> DifferingKeys(const Config& a, const Config& b);

}  // namespace conclave::core
