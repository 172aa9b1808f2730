// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/box_cover.h"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"

namespace conclave::core {
namespace {

using StoredBoxes = std::span<const StoredBox* const>;  // of one tensor, ascending offsets

absl::Status CheckSameType(StoredBoxes boxes) {
  const StoredBox& first = *boxes.front();
  for (const StoredBox* box : boxes) {
    if (box->shape == first.shape && box->dtype == first.dtype) continue;
    return absl::InternalError(absl::StrFormat("tensor %s is %s in %s and %s in %s", Quoted(first.name),
                                               TypeText(first.dtype, first.shape), first.file,
                                               TypeText(box->dtype, box->shape), box->file));
  }
  return absl::OkStatus();
}

// Boxes are compared with those that begin before they end along dim 0, the dim along which layouts cut.
absl::Status CheckDisjoint(StoredBoxes boxes) {
  for (size_t i = 0; i < boxes.size(); ++i) {
    const Box& box = boxes[i]->box;
    for (size_t j = i + 1; j < boxes.size(); ++j) {
      const Box& next = boxes[j]->box;
      if (box.rank > 0 && next.offsets[0] >= box.offsets[0] + box.sizes[0]) break;
      const std::optional<Box> common = Intersect(box, next);
      if (!common) continue;
      return absl::InternalError(absl::StrFormat("tensor %s: %s was written twice, into %s and into %s",
                                                 Quoted(boxes[i]->name), BoxText(*common), boxes[i]->file,
                                                 boxes[j]->file));
    }
  }
  return absl::OkStatus();
}

// Of disjoint boxes.
absl::Status CheckComplete(StoredBoxes boxes) {
  const StoredBox& first = *boxes.front();
  const Box whole = WholeBox(first.shape);
  int64_t elements = 0;
  for (const StoredBox* box : boxes) elements += box->box.Elements();
  if (elements == whole.Elements()) return absl::OkStatus();
  std::vector<Box> missing = {whole};
  for (const StoredBox* box : boxes) {
    std::vector<Box> still_missing;
    for (const Box& rest : missing) {
      if (const auto common = Intersect(rest, box->box)) {
        AppendDifference(rest, *common, still_missing);
      } else {
        still_missing.push_back(rest);
      }
    }
    missing = std::move(still_missing);
  }
  return absl::InternalError(absl::StrFormat("tensor %s, %s: nobody wrote %s", Quoted(first.name),
                                             TypeText(first.dtype, first.shape), BoxText(missing.front())));
}

}  // namespace

void AppendDifference(Box box, const Box& hole, std::vector<Box>& out) {
  for (int dim = 0; dim < box.rank; ++dim) {
    const int64_t begin = box.offsets[dim], end = begin + box.sizes[dim];
    const int64_t hole_begin = hole.offsets[dim], hole_end = hole_begin + hole.sizes[dim];
    Box slab = box;
    slab.sizes[dim] = hole_begin - begin;
    if (slab.sizes[dim] > 0) out.push_back(slab);
    slab.offsets[dim] = hole_end;
    slab.sizes[dim] = end - hole_end;
    if (slab.sizes[dim] > 0) out.push_back(slab);
    box.offsets[dim] = hole_begin;
    box.sizes[dim] = hole.sizes[dim];
  }
}

absl::Status CheckExactCover(std::span<const StoredBox> boxes) {
  std::vector<const StoredBox*> sorted;
  for (const StoredBox& box : boxes) sorted.push_back(&box);
  std::sort(sorted.begin(), sorted.end(), [](const StoredBox* a, const StoredBox* b) {
    return std::tie(a->name, a->box.offsets, a->file) < std::tie(b->name, b->box.offsets, b->file);
  });
  for (auto begin = sorted.begin(); begin != sorted.end();) {
    const auto end =
        std::find_if(begin, sorted.end(), [begin](const StoredBox* box) { return box->name != (*begin)->name; });
    const StoredBoxes tensor(begin, end);
    RETURN_IF_ERROR(CheckSameType(tensor));
    RETURN_IF_ERROR(CheckDisjoint(tensor));
    RETURN_IF_ERROR(CheckComplete(tensor));
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace conclave::core
