// SPDX-License-Identifier: Apache-2.0
// y = x rstd gain, rstd = 1 / sqrt(mean(x^2) + eps), and its backward. Means are 16-lane sums of one row. The gain
// gradient has one chain over tokens per (row of the batch, column): it is taken along while a thread walks through a
// row of the batch, or, where these are too few for the threads, in a pass of its own by blocks of columns.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// True if work in `items` equal parts leaves few of the threads idle.
bool FillsThreads(int64_t items, int64_t threads) {
  return 2 * ((items + threads - 1) / threads * threads) <= 3 * items;
}

template <class T>
float NormRow(const T* x, const float* gain, int64_t n, float eps, T* y) {
  F32x16 squares = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 v = StreamLanes(x + i, lanes);
    squares = Fma(v, v, squares);
  });
  const float rstd = 1.0f / __builtin_sqrtf(Sum(squares) / static_cast<float>(n) + eps);
  const F32x16 factor = Set(rstd);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    StoreLanes(y + i, LoadLanes(x + i, lanes) * factor * LoadLanes(gain + i, lanes), lanes);
  });
  return rstd;
}

template <class T>
struct BackwardArrays {
  Rows<const T> x, dy, d_residual;
  bool has_residual;
  const float *gain, *rstd;
  int64_t n;
  Rows<T> dx;
};

// gain_sums [n], optional: adds dy x rstd.
template <class T>
void NormRowBackward(const BackwardArrays<T>& a, int64_t row, float* gain_sums) {
  const T *const x = a.x[row], *const dy = a.dy[row], *const d_residual = a.has_residual ? a.d_residual[row] : nullptr;
  T* const dx = a.dx[row];
  F32x16 products = Set(0);
  ForEachVector(a.n, [&](int64_t i, auto lanes) {
    const F32x16 g = LoadLanes(a.gain + i, lanes) * StreamLanes(dy + i, lanes);
    products = Fma(StreamLanes(x + i, lanes), g, products);
  });
  const float rstd = a.rstd[row];
  const F32x16 projection = Set(rstd * (rstd * (Sum(products) / static_cast<float>(a.n)))), factor = Set(rstd);
  ForEachVector(a.n, [&](int64_t i, auto lanes) {
    const F32x16 v = LoadLanes(x + i, lanes), upstream = LoadLanes(dy + i, lanes);
    const F32x16 d = FmaNeg(v, projection, LoadLanes(a.gain + i, lanes) * upstream);
    if (gain_sums) {
      StoreLanes(gain_sums + i, Fma(upstream, v * factor, LoadLanes(gain_sums + i, lanes)), lanes);
    }
    StoreLanes(dx + i, d_residual ? Fma(d, factor, StreamLanes(d_residual + i, lanes)) : d * factor, lanes);
  });
}

constexpr int64_t kBlockColumns = 4 * kLanes;

// gain_sums of the columns [column, column + width) of rows [begin, end), in registers.
template <class T>
void SumGainBlock(const BackwardArrays<T>& a, int64_t begin, int64_t end, int64_t column, int64_t width,
                  float* gain_sums) {
  F32x16 sums[kBlockColumns / kLanes];
  for (F32x16& sum : sums) sum = Set(0);
  for (int64_t row = begin; row < end; ++row) {
    const T *const x = a.x[row] + column, *const dy = a.dy[row] + column;
    const F32x16 factor = Set(a.rstd[row]);
    ForEachVector(width, [&](int64_t i, auto lanes) {
      sums[i / kLanes] = Fma(LoadLanes(dy + i, lanes), LoadLanes(x + i, lanes) * factor, sums[i / kLanes]);
    });
  }
  ForEachVector(width, [&](int64_t i, auto lanes) { StoreLanes(gain_sums + column + i, sums[i / kLanes], lanes); });
}

// One contribution per column to the parameter's gradient.
template <class Sum>
void AddGainSums(const float* gain_sums, int64_t begin, int64_t end, const GradientTarget& target) {
  Sum* const out = target.sum.As<Sum>() + begin;
  ForEachVector(end - begin, [&](int64_t i, auto lanes) {
    const F32x16 sum = LoadLanes(gain_sums + begin + i, lanes);
    if (AnyBeyond(sum, target.limit)) SetFlag(target.flag.As<int32_t>());
    if (lanes.lanes == kLanes) {
      AddToSum(out + i, sum);
    } else {
      AddPartToSum(out + i, sum, lanes.lanes);
    }
  });
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
  const int64_t n = x.size(x.rank - 1), heads = x.rank == 3 ? x.size(1) : 1;
  const int32_t* const offsets = row_offsets.As<int32_t>();
  CHECK_EQ(offsets[row_offsets.size(0) - 1], x.size(0));
  const int64_t batch_rows = row_offsets.size(0) - 1, blocks = (n + kBlockColumns - 1) / kBlockColumns;
  float* const gain_sums = static_cast<float*>(pool_.Scratch(0, batch_rows * n * SizeOf(DType::kF32)));
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const BackwardArrays<T> arrays = {.x = Rows<const T>(x),
                                      .dy = Rows<const T>(dy),
                                      .d_residual = Rows<const T>(d_residual ? d_residual : dy),
                                      .has_residual = static_cast<bool>(d_residual),
                                      .gain = gain.As<float>(),
                                      .rstd = rstd.As<float>(),
                                      .n = n,
                                      .dx = Rows<T>(dx)};
    if (FillsThreads(batch_rows, pool_.size())) {
      pool_.ParallelFor(batch_rows, 1, [&](int64_t begin, int64_t end, int) {
        std::fill(gain_sums + begin * n, gain_sums + end * n, 0.0f);
        for (int64_t r = begin; r < end; ++r) {
          for (int64_t row = offsets[r] * heads; row < offsets[r + 1] * heads; ++row) {
            NormRowBackward<T>(arrays, row, gain_sums + r * n);
          }
        }
      });
    } else {
      // The sums first: dx may be the memory of dy or x.
      pool_.ParallelFor(batch_rows * blocks, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t work = begin; work < end; ++work) {
          const int64_t r = work / blocks, column = work % blocks * kBlockColumns;
          SumGainBlock<T>(arrays, offsets[r] * heads, offsets[r + 1] * heads, column,
                          std::min(kBlockColumns, n - column), gain_sums + r * n);
        }
      });
      pool_.ParallelFor(rstd.Elements(), RowGrain(n), [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) NormRowBackward<T>(arrays, row, nullptr);
      });
    }
  });
  DispatchSum(target.sum.dtype, [&](auto zero) {
    pool_.ParallelFor(n, RowGrain(batch_rows) * kLanes, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = 0; r < batch_rows; ++r) AddGainSums<decltype(zero)>(gain_sums + r * n, begin, end, target);
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
