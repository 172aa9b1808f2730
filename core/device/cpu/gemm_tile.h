// SPDX-License-Identifier: Apache-2.0
// The one tile kernel under every matrix product of the CPU backend (GEMMs, weight gradients, attention, head): 8 rows
// by 48 columns of c, held in registers over all of k. Each element is ONE chain of fused multiply-adds in ascending k,
// so its bits depend neither on the tile's shape nor on the other rows, the threads or (in f32) the instruction set
// (AMX has chains of its own: gemm_tile_amx.cc).
//
// Why 8 x 48. A multiply-add has a latency of 4 to 5 cycles and a core starts two of them per cycle: at least 8 to 10
// chains must be under way, or its units idle.
//   AVX-512, 32 registers of 16 lanes: 8 x 3 accumulators, 3 of the panel, 1 broadcast of a: 28. A step is 24
//     multiply-adds and 11 loads; a core does two of each per cycle, so loads never bind. It reads 192 bytes of the
//     panel per 12 cycles or more: 16 bytes per cycle, which a second-level cache sustains, so that a panel need not
//     fit into the first one.
//   AVX2, 16 registers of 8 lanes: the same tile in blocks of 4 x 24: 12 accumulators, 3 of the panel, 1 broadcast: all
//     16. A step is 12 multiply-adds and 7 loads in 6 cycles. A panel is read twice as often, and a first-level cache
//     has to hold it: 64 steps are 12 KiB of 32. The rest is for the rows, the sums, and whoever shares the core: 128
//     steps are as fast on a core of one's own, and up to 15 % slower beside a neighbour (measured).
// Callers walk long sums in chunks of kTileSteps; between two chunks the chains of a tile stand in memory.
#pragma once

#include <cstdint>

#include "core/device/cpu/ahead.h"
#include "core/device/cpu/pack.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kTileRows = 8;

// Steps of a panel that stay close to the core while the tiles of a block of rows pass over it: in the first-level
// cache (AVX2), or in the second, where 192 KiB of it leave room for the rows (AVX-512).
#if defined(__AVX512F__)
inline constexpr int64_t kTileSteps = 1024;
#else
inline constexpr int64_t kTileSteps = 64;
#endif

// Steps that belong together: a chain may be interrupted (a call that goes on with `accumulate`) at multiples of these.
// AMX adds 16 pairs at once (gemm_tile_amx.cc).
template <class T>
inline constexpr int64_t kChainSteps = 1;
#if defined(__AMX_BF16__)
template <>
inline constexpr int64_t kChainSteps<Bf16> = 16;
#endif

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
// T is an Operand (pack.h).
// T = float: a step is one k; a(m, k) = a[m * a_row_stride + k * a_step_stride]; panel [steps][48].
// T = Bf16: a step is a pair of k, one vdpbf16ps; pair (m, s) is the 32-bit word at index m * a_row_stride + s *
//   a_step_stride counted from a (strides in pairs, one of them 1; any alignment); panel [steps][48][2].
// Meanwhile fetches of `ahead` what it gets to.
// 1 <= columns <= 48; any number of rows. The panel always has 48 columns; those of c beyond `columns` are not touched.
template <class T>
void GemmTile(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
              const T* panel, float* c, int64_t ldc, bool accumulate, Ahead& ahead = nothing_ahead);
#if defined(__AMX_BF16__)
template <>
void GemmTile(int64_t rows, int columns, int64_t steps, const Bf16* a, int64_t a_row_stride, int64_t a_step_stride,
              const Bf16* panel, float* c, int64_t ldc, bool accumulate, Ahead& ahead);
#endif

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
