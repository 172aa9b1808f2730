// SPDX-License-Identifier: Apache-2.0
// config.json of a Hugging Face folder <-> ModelConfig. Extra keys are harmless; one that asks for something this
// program does not compute (another activation, sliding windows, another quantization, ...) is refused by name and
// value.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/config/model_config.h"

namespace conclave::core {

// `name` (the path) stands in messages. Accepts rope_scaling/rope_theta and the newer rope_parameters.
absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view json, const std::string& name);

// The text of config.json, keys as on the Hub (old pair rope_theta + rope_scaling: every reader takes it);
// torch_dtype "float32" or "bfloat16".
std::string WriteHfConfig(const ModelConfig& config, std::string_view torch_dtype);

}  // namespace conclave::core
