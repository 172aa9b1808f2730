// SPDX-License-Identifier: Apache-2.0
// "a.b=c" from the command line, written into the tree of a file before it is read: values take the same path, and the
// same checks, as those of the file, and errors name the override.
#pragma once

#include <string>

#include "absl/status/status.h"

#include "core/config/yaml_node.h"

namespace conclave::core {

// Sets one value. Missing maps on the way are made; list entries are counted from 0, the one after the last is
// appended; entries that have a `name` are found by it, too: stages.grpo.optim.lr. `text` must outlive `root`, whose
// new nodes point to it.
absl::Status ApplyOverride(const std::string& text, YamlNode& root);

// The node that a path such as "data.train.0.path" leads to, or the last one on the way that exists.
const YamlNode& FindClosest(const YamlNode& root, std::string_view path);

}  // namespace conclave::core
