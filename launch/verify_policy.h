// SPDX-License-Identifier: Apache-2.0
// The part of `conclave verify` that compares policy losses and their gradients, one line for each variant.
#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "core/config/model_config.h"
#include "launch/verify.h"

namespace conclave::launch {

// True if everything is within `tolerance`. `dir`: the model folder.
absl::StatusOr<bool> VerifyPolicies(const std::string& dir, const core::ModelConfig& config,
                                    const VerifyOptions& options, double tolerance);

}  // namespace conclave::launch
