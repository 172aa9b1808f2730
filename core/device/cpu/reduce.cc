// SPDX-License-Identifier: Apache-2.0
// The squared norm of a gradient. Per dim-0 slice (what one rank of the data axis may own) an f64 sum in 16 virtual
// lanes, then integer limbs (core/base/fixed_sum.h), whose additions have no order: threads and ranks add as they
// finish.
#include <algorithm>

#include "core/base/check.h"
#include "core/base/fixed_sum.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gradient_load.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// Lane i takes elements i, i + 16, ...; lanes join by the tree of simd.h.
template <class Sum>
double SumOfSquares(const Sum* gradient, int64_t n) {
  F64x16 sums = {};
  ForEachVector(n, [&](int64_t i, auto lanes) { sums = AddSquare(sums, LoadGradient(gradient + i, lanes)); });
  double joined[kLanes];
  StoreDoubles(joined, sums);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) joined[lane] += joined[lane + width];
  }
  return joined[0];
}

// In a void step an f32 gradient can be anything; its norm does not count.
double InRange(double squares) { return squares < 0x1p78 ? squares : 0; }

}  // namespace

void CpuKernels::SumSquares(Tensor gradient, Tensor limbs) {
  CHECK(gradient.Contiguous());
  CHECK(limbs.dtype == DType::kI64);
  CHECK_EQ(limbs.Elements(), kNormLimbs);
  if (gradient.Elements() == 0) return;
  const int64_t slices = gradient.size(0), length = gradient.Elements() / slices;
  const auto run = [&]<class Sum>(Sum) {
    pool_.ParallelFor(slices, RowGrain(length), [&](int64_t begin, int64_t end, int) {
      int64_t own[kNormLimbs] = {};
      for (int64_t slice = begin; slice < end; ++slice) {
        AddToNormLimbs(InRange(SumOfSquares(gradient.As<Sum>() + slice * length, length)), own);
      }
      for (int i = 0; i < kNormLimbs; ++i) __atomic_fetch_add(limbs.As<int64_t>() + i, own[i], __ATOMIC_RELAXED);
    });
  };
  DispatchSum(gradient.dtype, run);
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
