// SPDX-License-Identifier: Apache-2.0
// Walking a row 16 lanes at a time. The body of the loop is written once; the compiler makes it twice, for whole
// vectors and for the part at the end (lanes beyond it read as 0 and are not written).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/cpu/simd.h"
#include "core/tensor/tensor.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

struct WholeVector {
  static constexpr int lanes = kLanes;
};
struct PartOfVector {
  int lanes;
};

// Always inlined: a vector that passes through memory on its way to a function costs more than the function.
template <class T>
[[gnu::always_inline]] inline F32x16 LoadLanes(const T* p, WholeVector) {
  return Load(p);
}
template <class T>
[[gnu::always_inline]] inline F32x16 LoadLanes(const T* p, PartOfVector part) {
  return LoadPart(p, part.lanes);
}
// The same of memory that is walked through for the first time: also asks for what stands a page ahead. Hardware
// prefetchers stop at the borders of pages and learn little from short rows of several arrays.
template <class T, class Lanes>
[[gnu::always_inline]] inline F32x16 StreamLanes(const T* p, Lanes lanes) {
  constexpr uintptr_t kAhead = 4096;
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(p) + kAhead));
  return LoadLanes(p, lanes);
}
template <class T>
[[gnu::always_inline]] inline void StoreLanes(T* p, F32x16 x, WholeVector) {
  Store(p, x);
}
template <class T>
void StoreLanes(T* p, F32x16 x, PartOfVector part) {
  StorePart(p, x, part.lanes);
}

// body(i, lanes) for i = 0, 16, ... below n.
template <class Body>
void ForEachVector(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, WholeVector{});
  if (i < n) body(i, PartOfVector{static_cast<int>(n - i)});
}

// The rows of [T, n] or [T, H, n]: row t * H + h, whatever the strides.
template <class T>
class Rows {
 public:
  explicit Rows(const Tensor& x)
      : data_(x.As<T>()),
        heads_(x.rank == 3 ? x.size(1) : 1),
        token_stride_(x.stride(0)),
        head_stride_(x.rank == 3 ? x.stride(1) : 0) {}

  T* operator[](int64_t row) const {
    return heads_ == 1 ? data_ + row * token_stride_ : At(row / heads_, row % heads_);
  }
  T* At(int64_t token, int64_t head) const { return data_ + token * token_stride_ + head * head_stride_; }
  int64_t heads() const { return heads_; }

 private:
  T* data_;
  int64_t heads_, token_stride_, head_stride_;
};

// Rows of n elements that one chunk of a ParallelFor takes: enough work to outweigh the hand-out, few enough to spread.
inline int64_t RowGrain(int64_t n) { return std::max<int64_t>(1, 8192 / std::max<int64_t>(1, n)); }

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
