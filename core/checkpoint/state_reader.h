// SPDX-License-Identifier: Apache-2.0
// Any box of any tensor of a checkpoint, assembled from the stored boxes that it meets; reads the bytes it needs and no
// others. State comes before weights where both have a name.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/manifest.h"
#include "core/checkpoint/safetensors.h"

namespace conclave::core {

class StateReader {
 public:
  // Reads the manifest alone: of many readers, each opens only the files that it needs.
  static absl::StatusOr<StateReader> Open(const std::string& dir);

  const Manifest& manifest() const { return *manifest_; }
  // All tensors, ascending names; box is the whole tensor, data is null.
  std::vector<StateTensor> Tensors() const;
  // Whether the tensor is state rather than a weight that follows from it.
  bool IsState(std::string_view name) const { return state_names_.contains(name); }
  // Fills tensor.data. Opens files when they are first needed, checks their sizes, and keeps them open.
  absl::Status Read(const StateTensor& tensor);

 private:
  using StoredBoxes = std::vector<const StoredBox*>;

  absl::StatusOr<const SafetensorsFile*> File(const std::string& name);
  absl::Status CopyPart(const StoredBox& stored, const Box& part, const StateTensor& tensor);

  std::string dir_;
  std::unique_ptr<Manifest> manifest_;  // boxes_ points into it
  std::map<std::string_view, StoredBoxes> boxes_;
  std::set<std::string_view> state_names_;
  std::map<std::string, SafetensorsFile> files_;
};

}  // namespace conclave::core
