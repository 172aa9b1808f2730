// SPDX-License-Identifier: Apache-2.0
// Between the text of a file and a Config: the tree with its overrides. What single configs (yaml.h) and files of
// stages (recipe.h) share. Nodes refer to the names and overrides that are given, which therefore outlive them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/config/yaml_node.h"

namespace conclave::core {

absl::StatusOr<std::string> ReadConfigText(const std::string& path);

// A map, with the overrides applied. `name` stands in messages.
absl::StatusOr<YamlNode> ParseConfigTree(std::string_view text, const std::string& name,
                                         std::span<const std::string> overrides);

// Reads and validates. Errors name the stage, unless that is "".
absl::StatusOr<Config> ReadConfigTree(const YamlNode& root, std::string_view stage);

}  // namespace conclave::core
