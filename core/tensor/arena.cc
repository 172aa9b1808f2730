// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/arena.h"

#include <algorithm>
#include <cstdio>

namespace conclave::core {
namespace {
// Fake but non-null addresses, so that "is there a tensor" means the same while measuring. Never dereferenced.
char* const kMeasuringBase = reinterpret_cast<char*>(uintptr_t{1} << 46);
}  // namespace

void Arena::Attach(void* memory, int64_t capacity) {
  CHECK_EQ(used_, 0);
  memory_ = static_cast<char*>(memory);
  capacity_ = capacity;
  peak_ = 0;
}

Tensor Arena::Allocate(DType dtype, std::initializer_list<int64_t> shape) {
  Tensor tensor(nullptr, dtype, shape);
  tensor.data = (memory_ ? memory_ : kMeasuringBase) + used_;
  used_ += (tensor.Bytes() + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  peak_ = std::max(peak_, used_);
  if (memory_ && used_ > capacity_) {
    std::fprintf(stderr, "arena '%s': ", label_.c_str());
    CHECK_LE(used_, capacity_);
  }
  return tensor;
}

}  // namespace conclave::core
