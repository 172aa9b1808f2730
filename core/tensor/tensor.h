// SPDX-License-Identifier: Apache-2.0
// A typed view of memory that somebody else owns (an Arena, a DeviceBuffer): pointer, dtype, up to four sizes and strides.
// Passed by value. The last dim is always contiguous; outer dims may be strided, so a column range is a view, too.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "core/base/check.h"
#include "core/tensor/dtype.h"

namespace conclave::core {

inline constexpr int kMaxRank = 4;

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{};    // elements
  std::array<int64_t, kMaxRank> strides{};  // elements; strides[rank - 1] == 1

  Tensor() = default;
  Tensor(void* memory, DType type, std::initializer_list<int64_t> shape);  // contiguous, row-major

  explicit operator bool() const { return data != nullptr; }
  int64_t size(int dim) const { return sizes[dim]; }
  int64_t stride(int dim) const { return strides[dim]; }
  int64_t Elements() const;
  int64_t Bytes() const { return Elements() * SizeOf(dtype); }
  bool Contiguous() const;

  // The same memory with another shape of equally many elements; needs a contiguous tensor.
  Tensor Reshape(std::initializer_list<int64_t> shape) const;
  // Entries [begin, begin + count) of dim `dim`.
  Tensor Slice(int dim, int64_t begin, int64_t count) const;
  // Splits the last dim n into [n / inner, inner]; [T, H * 16] -> [T, H, 16]. Works on strided rows.
  Tensor SplitLast(int64_t inner) const;
  // Splits dim 0 of n entries into [n / inner, inner]; [T, H, 16] -> [rows, length, H, 16].
  Tensor SplitFirst(int64_t inner) const;
  // [a, b, ...] -> [a * b, ...] where the rows of dim 0 and 1 are evenly spaced.
  Tensor MergeFirst() const;

  template <class T>
  T* As() const {
    static_assert(sizeof(T) > 0);
    return static_cast<T*>(data);
  }
};

}  // namespace conclave::core
