// SPDX-License-Identifier: Apache-2.0
// Zero, Cast, Add: memory-bound walks over one, two or three tensors of one shape; FillNormal. A tensor is cut into
// pieces that are contiguous in all of them: blocks of the whole memory where nothing is strided, else blocks of its
// rows.
#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kBlock = 8192;  // elements

class Pieces {
 public:
  explicit Pieces(std::initializer_list<const Tensor*> tensors) : shape_(**tensors.begin()) {
    bool contiguous = true;
    for (const Tensor* tensor : tensors) {
      CHECK_EQ(tensor->rank, shape_.rank);
      CHECK(tensor->sizes == shape_.sizes);
      contiguous = contiguous && tensor->Contiguous();
    }
    flat_ = contiguous || shape_.rank == 0;
    row_length_ = flat_ ? shape_.Elements() : shape_.size(shape_.rank - 1);
    blocks_per_row_ = (row_length_ + kBlock - 1) / kBlock;
    count_ = shape_.Elements() == 0 ? 0 : blocks_per_row_ * (shape_.Elements() / row_length_);
  }

  int64_t count() const { return count_; }
  int64_t grain() const { return RowGrain(std::min(row_length_, kBlock)); }
  int64_t Length(int64_t piece) const { return std::min(kBlock, row_length_ - piece % blocks_per_row_ * kBlock); }

  // Where the piece begins in a tensor of the shape, in elements.
  int64_t Offset(const Tensor& tensor, int64_t piece) const {
    int64_t offset = piece % blocks_per_row_ * kBlock, row = piece / blocks_per_row_;
    if (flat_) return offset;
    for (int dim = tensor.rank - 2; dim >= 0; --dim) {
      offset += row % tensor.size(dim) * tensor.stride(dim);
      row /= tensor.size(dim);
    }
    return offset;
  }

 private:
  const Tensor& shape_;
  bool flat_;
  int64_t row_length_, blocks_per_row_, count_;
};

template <class A, class B, class Y>
void AddPiece(const A* a, const B* b, int64_t n, Y* y) {
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(y + i, StreamLanes(a + i, lanes) + StreamLanes(b + i, lanes), lanes);
  });
}

template <class X, class Y>
void CastPiece(const X* x, int64_t n, Y* y) {
  ForEachVector(n, [&](int64_t i, auto lanes) { StoreLanes(y + i, StreamLanes(x + i, lanes), lanes); });
}

void Copy(ThreadPool& pool, const Tensor& x, const Tensor& y) {
  const Pieces pieces({&x, &y});
  const int64_t size = SizeOf(x.dtype);
  pool.ParallelFor(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      std::memcpy(y.As<char>() + pieces.Offset(y, piece) * size, x.As<char>() + pieces.Offset(x, piece) * size,
                  pieces.Length(piece) * size);
    }
  });
}

template <class A, class B, class Y>
void AddAs(ThreadPool& pool, const Tensor& a, const Tensor& b, const Tensor& y) {
  const Pieces pieces({&y, &a, &b});
  pool.ParallelFor(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      AddPiece(a.As<A>() + pieces.Offset(a, piece), b.As<B>() + pieces.Offset(b, piece), pieces.Length(piece),
               y.As<Y>() + pieces.Offset(y, piece));
    }
  });
}

// Gradient sums; contiguous.
void AddIntegers(ThreadPool& pool, const Tensor& a, const Tensor& b, const Tensor& y) {
  CHECK(a.dtype == y.dtype && b.dtype == y.dtype);
  CHECK(a.Contiguous() && b.Contiguous() && y.Contiguous());
  CHECK(a.Elements() == y.Elements() && b.Elements() == y.Elements());
  pool.ParallelFor(y.Elements(), RowGrain(1), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) y.As<int64_t>()[i] = a.As<int64_t>()[i] + b.As<int64_t>()[i];
  });
}

}  // namespace

void CpuKernels::Zero(Tensor x) {
  const Pieces pieces({&x});
  const int64_t size = SizeOf(x.dtype);
  pool_.ParallelFor(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      std::memset(x.As<char>() + pieces.Offset(x, piece) * size, 0, pieces.Length(piece) * size);
    }
  });
}

void CpuKernels::FillNormal(Tensor x, uint64_t key, float std) {
  constexpr int64_t kGrain = 4096;
  CHECK(x.dtype == DType::kF32 && x.Contiguous());
  pool_.ParallelFor(x.Elements(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) x.As<float>()[i] = std * StandardNormal(key, static_cast<uint64_t>(i));
  });
}

void CpuKernels::Cast(Tensor x, Tensor y) {
  if (x.dtype == y.dtype) return Copy(pool_, x, y);
  const Pieces pieces({&x, &y});
  const bool to_bf16 = x.dtype == DType::kF32 && y.dtype == DType::kBf16;
  CHECK(to_bf16 || (x.dtype == DType::kBf16 && y.dtype == DType::kF32));
  pool_.ParallelFor(pieces.count(), pieces.grain(), [&](int64_t begin, int64_t end, int) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t from = pieces.Offset(x, piece), to = pieces.Offset(y, piece), n = pieces.Length(piece);
      if (to_bf16) {
        CastPiece(x.As<float>() + from, n, y.As<Bf16>() + to);
      } else {
        CastPiece(x.As<Bf16>() + from, n, y.As<float>() + to);
      }
    }
  });
}

void CpuKernels::Add(Tensor a, Tensor b, Tensor y) {
  if (y.dtype == DType::kI64) return AddIntegers(pool_, a, b, y);
  DispatchFloat(a.dtype, [&](auto zero_a) {
    DispatchFloat(b.dtype, [&](auto zero_b) {
      DispatchFloat(y.dtype,
                    [&](auto zero_y) { AddAs<decltype(zero_a), decltype(zero_b), decltype(zero_y)>(pool_, a, b, y); });
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
