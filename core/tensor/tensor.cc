// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/tensor.h"

namespace conclave::core {

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "f32";
    case DType::kBf16: return "bf16";
    case DType::kF8E4M3: return "e4m3";
    case DType::kI32: return "i32";
    case DType::kI64: return "i64";
    case DType::kF64: return "f64";
    case DType::kU8: return "u8";
  }
  return "?";
}

Tensor::Tensor(void* memory, DType type, std::initializer_list<int64_t> shape)
    : data(memory), dtype(type), rank(static_cast<int>(shape.size())) {
  CHECK_LE(rank, kMaxRank);
  int dim = 0;
  for (int64_t n : shape) sizes[dim++] = n;
  int64_t stride = 1;
  for (dim = rank - 1; dim >= 0; --dim) {
    strides[dim] = stride;
    stride *= sizes[dim];
  }
}

int64_t Tensor::Elements() const {
  int64_t n = 1;
  for (int dim = 0; dim < rank; ++dim) n *= sizes[dim];
  return n;
}

bool Tensor::Contiguous() const {
  int64_t stride = 1;
  for (int dim = rank - 1; dim >= 0; --dim) {
    if (sizes[dim] != 1 && strides[dim] != stride) return false;
    stride *= sizes[dim];
  }
  return true;
}

Tensor Tensor::Reshape(std::initializer_list<int64_t> shape) const {
  CHECK(Contiguous());
  Tensor out(data, dtype, shape);
  CHECK_EQ(out.Elements(), Elements());
  return out;
}

Tensor Tensor::Slice(int dim, int64_t begin, int64_t count) const {
  CHECK_LT(dim, rank);
  CHECK_GE(begin, 0);
  CHECK_LE(begin + count, sizes[dim]);
  Tensor out = *this;
  if (data) out.data = static_cast<char*>(data) + begin * strides[dim] * SizeOf(dtype);
  out.sizes[dim] = count;
  return out;
}

Tensor Tensor::SplitLast(int64_t inner) const {
  CHECK_LT(rank, kMaxRank);
  CHECK_EQ(sizes[rank - 1] % inner, 0);
  Tensor out = *this;
  out.sizes[rank - 1] = sizes[rank - 1] / inner;
  out.strides[rank - 1] = inner;
  out.sizes[rank] = inner;
  out.strides[rank] = 1;
  out.rank = rank + 1;
  return out;
}

Tensor Tensor::SplitFirst(int64_t inner) const {
  CHECK_LT(rank, kMaxRank);
  CHECK_EQ(sizes[0] % inner, 0);
  Tensor out = *this;
  for (int dim = rank; dim > 0; --dim) {
    out.sizes[dim] = sizes[dim - 1];
    out.strides[dim] = strides[dim - 1];
  }
  out.sizes[0] = sizes[0] / inner;
  out.strides[0] = strides[0] * inner;
  out.sizes[1] = inner;
  out.rank = rank + 1;
  return out;
}

Tensor Tensor::MergeFirst() const {
  CHECK_GE(rank, 2);
  CHECK(sizes[0] <= 1 || strides[0] == sizes[1] * strides[1]);
  Tensor out = *this;
  out.sizes[0] = sizes[0] * sizes[1];
  out.strides[0] = strides[1];
  for (int dim = 1; dim + 1 < rank; ++dim) {
    out.sizes[dim] = sizes[dim + 1];
    out.strides[dim] = strides[dim + 1];
  }
  out.rank = rank - 1;
  out.sizes[rank - 1] = out.strides[rank - 1] = 0;  // unused entries are zero: shapes compare as arrays
  return out;
}

}  // namespace conclave::core
