// SPDX-License-Identifier: Apache-2.0
// Whether boxes tile their tensors. Disjoint boxes inside a tensor cover it exactly when their elements add up to its
// own; where they do not, what is left after all of them are cut out names the gap.
#pragma once

#include <span>
#include <vector>

#include "absl/status/status.h"

#include "core/checkpoint/manifest.h"
#include "core/tensor/box.h"

namespace conclave::core {

// Appends `box` without `hole` (a part of it) as disjoint boxes: at most two slabs per dim.
void AppendDifference(Box box, const Box& hole, std::vector<Box>& out);

// Whether every tensor that is named has one shape and one dtype, and every element of it is in exactly one box. The
// error names tensor, rectangle and files. Boxes lie inside their shapes.
absl::Status CheckExactCover(std::span<const StoredBox> boxes);

}  // namespace conclave::core
