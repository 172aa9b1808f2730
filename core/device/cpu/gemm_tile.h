// SPDX-License-Identifier: Apache-2.0
// The one tile kernel under every matrix product of the CPU backend (GEMMs, weight gradients, attention, head): 8 rows
// by 48 columns of c, held in registers over all of k. Each element is ONE chain of fused multiply-adds in ascending k,
// so its bits depend neither on the tile's shape nor on the other rows, the threads or (in f32) the instruction set.
//
// Why 8 x 48. AVX-512 has 32 registers of 16 lanes: 8 x 3 accumulators, 3 of the panel, 1 broadcast of a: 28. A step is
// 24 multiply-adds and 11 loads; cores do at most two of each per cycle, so loads never bind, and 24 independent chains
// cover a latency of 4 to 6 cycles. A step reads 192 bytes of the panel per 12 cycles or more: 16 bytes per cycle,
// which a second-level cache sustains, so a panel need not fit into the first one (k = 256 is 48 KiB in f32). Callers
// keep a chunk of a panel plus its rows of a within the second level (kChunkSteps in gemm.cc). AVX2 does the same tile
// in pieces of 4 x 16: 8 accumulators, 2 of the panel, 1 broadcast, of 16 registers; 6 loads for 8 multiply-adds.
#pragma once

#include <cstdint>

#include "core/device/cpu/pack.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kTileRows = 8;

// Memory to bring into the second-level cache meanwhile: the line at `first`, then one every `stride` bytes, one per
// step. Any address is allowed. Tiles have load slots to spare, and what comes next is often in memory, at 3 bytes per
// cycle.
struct Ahead {
  const void* first = nullptr;
  int64_t stride = 0;
};

// Brings `rows` rows of memory close: what a tile will write when it ends (stores that miss would stop the next one).
// Always inlined: GCC 12 takes a function of nothing but prefetches for one without effects, and drops its calls.
[[gnu::always_inline]] inline void FetchRows(const void* first, int64_t rows, int64_t row_bytes, int64_t stride_bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < rows; ++i) {
    const char* row = static_cast<const char*>(first) + i * stride_bytes;
    for (int64_t byte = 0; byte < row_bytes; byte += kLine) __builtin_prefetch(row + byte, 1);
  }
}

// c[m * ldc + n] = (accumulate ? c[m * ldc + n] : 0) + sum over k of a(m, k) b(k, n), for m < rows, n < columns.
// T = float: a step is one k; a(m, k) = a[m * a_row_stride + k * a_step_stride]; panel [steps][48].
// T = Bf16: a step is a pair of k; pair (m, s) is the 32-bit word at index m * a_row_stride + s * a_step_stride counted
//   from a (strides in pairs; any alignment); panel [steps][48][2]. With AVX-512 BF16 a pair is one vdpbf16ps,
//   elsewhere two f32 multiply-adds, lower k first.
// 1 <= columns <= 48; any number of rows. The panel always has 48 columns; those of c beyond `columns` are not touched.
template <class T>
void GemmTile(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
              const T* panel, float* c, int64_t ldc, bool accumulate, Ahead ahead = {});

// Where the rounded sums of a tile go (gradient_sum.h).
struct FixedTile {
  int64_t* sum;  // element (m, n) at m * stride + n
  int64_t stride;
  F32x16 largest = Set(0.0f);  // magnitudes that were added, for AnyBeyond
};

// The same, but the sums end here: they are rounded and added to `fixed`; c is left undefined.
template <class T>
void GemmTileFixed(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
                   const T* panel, float* c, int64_t ldc, bool accumulate, FixedTile& fixed, Ahead ahead = {});

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
