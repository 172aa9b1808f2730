// SPDX-License-Identifier: Apache-2.0
// From the fragments of all parts of a save to what the whole holds: a pure function, since nothing on disk is believed
// or touched before the parts are known to fit together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/manifest.h"

namespace conclave::core {

// The fragments of one save in the order of their parts. Refuses foreign bytes, a part of another step or another save,
// a part that is missing or comes twice; a part that failed is not refused here.
absl::StatusOr<std::vector<Fragment>> ReadFragments(std::span<const std::string> fragments, int64_t step);

// Of all parts, at most 2^62.
int64_t TensorBytes(const std::vector<Fragment>& parts);

struct FileOfPart {
  std::string part_name;  // under which the part wrote it
  WrittenFile file;       // under its last name; both relative to the checkpoint
};

struct MergedParts {
  std::vector<FileOfPart> weight_files, state_files;  // in the order of parts
  std::vector<StoredBox> weights, state;              // in files under their last names
};

// Refuses parts that failed (with the status of the first), files that are not the part's own, weights that are not
// whole, and boxes that do not tile their tensors.
absl::StatusOr<MergedParts> MergeParts(const std::vector<Fragment>& parts);

}  // namespace conclave::core
