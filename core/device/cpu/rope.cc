// SPDX-License-Identifier: Apache-2.0
// Rotary positions. For each token the cosines and signed sines are laid out once as the layout needs them, (c, c) and
// (-s, s) per pair, and then serve all heads: y = x c + partner(x) s, where partner swaps the two elements of a pair.
#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// Lanes 1, 0, 3, 2, ...
F32x16 SwapPairs(F32x16 x) {
#if defined(__AVX512F__)
  return {_mm512_permute_ps(x.v, 0xb1)};
#elif defined(__AVX2__)
  return {_mm256_permute_ps(x.lo, 0xb1), _mm256_permute_ps(x.hi, 0xb1)};
#else
  F32x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = x.v[i ^ 1];
  return y;
#endif
}

// table_row = cos | sin, half each; factors = c [r] | s [r] in the order of x.
void ExpandFactors(const float* table_row, int64_t half, RopeLayout layout, RopeDirection direction, float* factors) {
  const int64_t next = layout == RopeLayout::kInterleaved ? 2 : 1;        // from pair to pair
  const int64_t partner = layout == RopeLayout::kInterleaved ? 1 : half;  // inside a pair
  float* const sines = factors + 2 * half;
  for (int64_t i = 0; i < half; ++i) {
    const float c = table_row[i];
    const float s = direction == RopeDirection::kForward ? table_row[half + i] : -table_row[half + i];
    factors[i * next] = factors[i * next + partner] = c;
    sines[i * next] = -s;
    sines[i * next + partner] = s;
  }
}

template <class T>
void RotateInterleaved(const float* factors, int64_t r, T* x) {
  ForEachVector(r, [&](int64_t i, auto lanes) {
    const F32x16 v = LoadLanes(x + i, lanes);
    const F32x16 swapped = SwapPairs(v) * LoadLanes(factors + r + i, lanes);
    StoreLanes(x + i, Fma(v, LoadLanes(factors + i, lanes), swapped), lanes);
  });
}

template <class T>
void RotateHalves(const float* factors, int64_t r, T* x) {
  const int64_t half = r / 2;
  ForEachVector(half, [&](int64_t i, auto lanes) {
    const F32x16 a = LoadLanes(x + i, lanes), b = LoadLanes(x + half + i, lanes);
    const F32x16 c = LoadLanes(factors + i, lanes), s = LoadLanes(factors + r + half + i, lanes);
    StoreLanes(x + i, FmaNeg(b, s, a * c), lanes);
    StoreLanes(x + half + i, Fma(a, s, b * c), lanes);
  });
}

}  // namespace

void CpuKernels::Rope(Tensor x, Tensor positions, Tensor table, RopeLayout layout, RopeDirection direction) {
  CHECK_EQ(x.rank, 3);
  CHECK_EQ(x.size(2), table.size(1));
  CHECK_EQ(x.size(2) % 2, 0);
  const int64_t tokens = x.size(0), heads = x.size(1), r = x.size(2);
  DispatchFloat(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> rows(x);
    pool_.ParallelFor(tokens, RowGrain(heads * r), [&](int64_t begin, int64_t end, int thread) {
      float* const factors = static_cast<float*>(pool_.Scratch(thread, 2 * r * SizeOf(DType::kF32)));
      for (int64_t token = begin; token < end; ++token) {
        const int32_t position = positions.As<int32_t>()[token];
        if (position < 0) continue;
        CHECK_LT(position, table.size(0));
        ExpandFactors(table.As<float>() + position * table.stride(0), r / 2, layout, direction, factors);
        for (int64_t head = 0; head < heads; ++head) {
          if (layout == RopeLayout::kInterleaved) {
            RotateInterleaved<T>(factors, r, rows.At(token, head));
          } else {
            RotateHalves<T>(factors, r, rows.At(token, head));
          }
        }
      }
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
