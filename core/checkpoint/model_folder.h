// SPDX-License-Identifier: Apache-2.0
// The weights of a Hugging Face model folder by tensor name, in one file or many (index JSON); block-FP8 tensors with
// their *_scale_inv companions read as what they stand for. Knows no model: shapes and names come from the caller.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/safetensors.h"

namespace conclave::core {

class ModelFolder {
 public:
  // Opens model.safetensors, or what model.safetensors.index.json names (plain file names in this folder only).
  static absl::StatusOr<ModelFolder> Open(const std::string& dir);

  const std::string& dir() const;
  std::vector<std::string> Names() const;  // ascending, without *_scale_inv companions
  bool Has(std::string_view name) const;
  absl::StatusOr<std::vector<int64_t>> Shape(std::string_view name) const;
  absl::StatusOr<std::string> StoredType(std::string_view name) const;  // "F32", "BF16", "F8_E4M3", ...

  // Reads a whole tensor as f32 [Elements]. Errors: absent; other shape (names both); a value that is NaN or infinite
  // (names the tensor and the first index). FP8: value * scale_inv of its block of block[0] x block[1].
  absl::Status Read(std::string_view name, const std::vector<int64_t>& shape, float* out) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace conclave::core
