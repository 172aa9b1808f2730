// SPDX-License-Identifier: Apache-2.0
// Our values for the names of a reference: one pass forward and backward, then optimizer steps on the same batch.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/model.h"
#include "launch/reference_file.h"
#include "launch/verify.h"

namespace conclave::launch {

struct NamedValue {
  std::vector<int64_t> shape;
  std::variant<std::vector<float>, std::vector<int32_t>> data;  // integers: chosen experts
};

// Computes every name of the reference that is known; others are left out.
absl::StatusOr<std::map<std::string, NamedValue>> ComputeValues(const std::string& dir, const core::ModelConfig& config,
                                                                const Reference& reference,
                                                                const VerifyOptions& options);

// The gradient of one Hugging Face tensor, from the sum that a backward pass has left on this rank.
std::vector<float> GradientOf(core::Model& model, const core::Param& param, const core::ParamPart& part);

}  // namespace conclave::launch
