// SPDX-License-Identifier: Apache-2.0
// Defaults that follow from other keys: from the stage, from grpo.preset, from tasks. A written config shows all
// values, so reading it again gives the same.
#pragma once

#include "core/config/config.h"
#include "core/config/yaml_node.h"

namespace conclave::core {

// What a key is that the file does not give, as far as `stage` and `grpo.preset` decide it.
Config DefaultsFor(const YamlNode& root);

// Keys that the file does not give and that follow from values it gives.
void FillFromOthers(const YamlNode& root, Config& config);

}  // namespace conclave::core
