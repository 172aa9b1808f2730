// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/box.h"

#include <algorithm>

#include "core/base/check.h"

namespace conclave::core {

Box Box::Whole(std::initializer_list<int64_t> shape) {
  CHECK_LE(shape.size(), 4);
  Box box;
  for (int64_t n : shape) box.sizes[box.rank++] = n;
  return box;
}

int64_t Box::Elements() const {
  int64_t n = 1;
  for (int dim = 0; dim < rank; ++dim) n *= sizes[dim];
  return n;
}

std::optional<Box> Intersect(const Box& a, const Box& b) {
  CHECK_EQ(a.rank, b.rank);
  Box out;
  out.rank = a.rank;
  for (int dim = 0; dim < a.rank; ++dim) {
    const int64_t begin = std::max(a.offsets[dim], b.offsets[dim]);
    const int64_t end = std::min(a.offsets[dim] + a.sizes[dim], b.offsets[dim] + b.sizes[dim]);
    if (begin >= end) return std::nullopt;
    out.offsets[dim] = begin;
    out.sizes[dim] = end - begin;
  }
  return out;
}

}  // namespace conclave::core
