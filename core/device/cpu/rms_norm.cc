// SPDX-License-Identifier: Apache-2.0
// y = x rstd gain, rstd = 1 / sqrt(mean(x^2) + eps), and its backward. Means are 16-lane sums of one row; the gain
// gradient is a second pass by column blocks, so that every (row of the batch, column) has one chain and no two threads
// share a sum.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

template <class T>
float NormRow(const T* x, const float* gain, int64_t n, float eps, T* y) {
  F32x16 squares = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 v = LoadLanes(x + i, lanes);
    squares = Fma(v, v, squares);
  });
  const float rstd = 1.0f / __builtin_sqrtf(Sum(squares) / static_cast<float>(n) + eps);
  const F32x16 factor = Set(rstd);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(y + i, LoadLanes(x + i, lanes) * factor * LoadLanes(gain + i, lanes), lanes);
  });
  return rstd;
}

// d_residual may be null.
template <class T>
void NormRowBackward(const T* x, const float* gain, float rstd, const T* dy, const T* d_residual, int64_t n, T* dx) {
  F32x16 products = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    products = Fma(LoadLanes(x + i, lanes), LoadLanes(gain + i, lanes) * LoadLanes(dy + i, lanes), products);
  });
  const F32x16 projection = Set(rstd * (rstd * (Sum(products) / static_cast<float>(n))));
  const F32x16 factor = Set(rstd);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 g = LoadLanes(gain + i, lanes) * LoadLanes(dy + i, lanes);
    const F32x16 d = FmaNeg(LoadLanes(x + i, lanes), projection, g);
    StoreLanes(dx + i, d_residual ? Fma(d, factor, LoadLanes(d_residual + i, lanes)) : d * factor, lanes);
  });
}

constexpr int kBlockVectors = 4;
constexpr int64_t kBlockColumns = kBlockVectors * kLanes;

// Adds the gain gradient of tokens [begin, end), one row of the batch, in the columns from `column` on. Lanes is
// WholeVector, or PartOfVector for the last block of a width that is no multiple of 64.
template <class T, class Lanes>
void AddGainGradient(const Rows<const T>& x, const float* rstd, const Rows<const T>& dy, int64_t begin, int64_t end,
                     int64_t column, const Lanes (&lanes)[kBlockVectors], const GradientTarget& target) {
  F32x16 sums[kBlockVectors];
  for (F32x16& sum : sums) sum = Set(0);
  for (int64_t row = begin * x.heads(); row < end * x.heads(); ++row) {
    const T* const x_row = x[row] + column;
    const T* const dy_row = dy[row] + column;
    const F32x16 factor = Set(rstd[row]);
    for (int v = 0; v < kBlockVectors; ++v) {
      const F32x16 normed = LoadLanes(x_row + v * kLanes, lanes[v]) * factor;
      sums[v] = Fma(LoadLanes(dy_row + v * kLanes, lanes[v]), normed, sums[v]);
    }
  }
  int64_t* const out = target.sum.As<int64_t>() + column;
  for (int v = 0; v < kBlockVectors; ++v) {
    if (AnyBeyond(sums[v], target.limit)) SetFlag(target.flag.As<int32_t>());
    if (lanes[v].lanes == kLanes) {
      AddFixed(out + v * kLanes, sums[v]);
    } else {
      AddFixedPart(out + v * kLanes, sums[v], lanes[v].lanes);
    }
  }
}

template <class T>
void AddGainGradientBlock(const Rows<const T>& x, const float* rstd, const Rows<const T>& dy,
                          const int32_t* row_offsets, int64_t batch_rows, int64_t column, int64_t n,
                          const GradientTarget& target) {
  const WholeVector whole[kBlockVectors] = {};
  PartOfVector part[kBlockVectors];
  for (int v = 0; v < kBlockVectors; ++v) {
    part[v].lanes = static_cast<int>(std::clamp<int64_t>(n - column - v * kLanes, 0, kLanes));
  }
  for (int64_t r = 0; r < batch_rows; ++r) {
    const int64_t begin = row_offsets[r], end = row_offsets[r + 1];
    if (begin == end) continue;
    if (column + kBlockColumns <= n) {
      AddGainGradient<T>(x, rstd, dy, begin, end, column, whole, target);
    } else {
      AddGainGradient<T>(x, rstd, dy, begin, end, column, part, target);
    }
  }
}

}  // namespace

void CpuKernels::RmsNorm(Tensor x, Tensor gain, float eps, Tensor y, Tensor rstd) {
  CHECK(x.rank == 2 || x.rank == 3);
  CHECK(x.dtype == y.dtype && gain.dtype == DType::kF32 && rstd.Contiguous());
  const int64_t n = x.size(x.rank - 1), rows = rstd.Elements();
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<const T> in(x);
    const Rows<T> out(y);
    pool_.ParallelFor(rows, RowGrain(n), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        rstd.As<float>()[row] = NormRow<T>(in[row], gain.As<float>(), n, eps, out[row]);
      }
    });
  });
}

void CpuKernels::RmsNormBackward(Tensor x, Tensor gain, Tensor rstd, Tensor dy, Tensor d_residual, Tensor row_offsets,
                                 Tensor dx, const GradientTarget& target) {
  CHECK(x.dtype == dy.dtype && x.dtype == dx.dtype && rstd.Contiguous());
  CHECK(!d_residual || d_residual.dtype == x.dtype);
  const int64_t n = x.size(x.rank - 1), rows = rstd.Elements();
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<const T> in(x), upstream(dy), residual(d_residual ? d_residual : dy);
    const Rows<T> out(dx);
    // The sums first: dx may be the memory of dy or x.
    pool_.ParallelFor((n + kBlockColumns - 1) / kBlockColumns, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t block = begin; block < end; ++block) {
        AddGainGradientBlock<T>(in, rstd.As<float>(), upstream, row_offsets.As<int32_t>(), row_offsets.size(0) - 1,
                                block * kBlockColumns, n, target);
      }
    });
    pool_.ParallelFor(rows, RowGrain(n), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        NormRowBackward<T>(in[row], gain.As<float>(), rstd.As<float>()[row], upstream[row],
                           d_residual ? residual[row] : nullptr, n, out[row]);
      }
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
