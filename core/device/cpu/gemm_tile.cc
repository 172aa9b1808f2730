// SPDX-License-Identifier: Apache-2.0
// The tile kernel, written once: element type and instruction set differ only in how a step is loaded and multiplied.
#include "core/device/cpu/gemm_tile.h"

#include <array>
#include <cstring>
#include <utility>

#include "core/device/cpu/gradient_sum.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// What the registers hold at once (gemm_tile.h says why).
#if defined(__AVX512F__)
constexpr int kBlockRows = 8, kBlockVectors = 3;
#elif defined(__AVX2__)
constexpr int kBlockRows = 4, kBlockVectors = 1;
#else
constexpr int kBlockRows = 1, kBlockVectors = 1;
#endif

// How one step of T is multiplied. A step has kPhases parts in ascending k.
template <class T>
struct Step;

template <>
struct Step<float> {
  static constexpr int kPhases = 1;
  template <int kPhase>
  static F32x16 Broadcast(const float* a) {
    return Set(*a);
  }
  template <int kPhase>
  static F32x16 LoadPanel(const float* panel) {
    return Load(panel);
  }
  static F32x16 MultiplyAdd(F32x16 a, F32x16 b, F32x16 c) { return Fma(a, b, c); }
};

#if defined(__AVX512BF16__)
template <>
struct Step<Bf16> {
  static constexpr int kPhases = 1;
  template <int kPhase>
  static __m512bh Broadcast(const Bf16* a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  template <int kPhase>
  static __m512bh LoadPanel(const Bf16* panel) {
    return (__m512bh)_mm512_loadu_si512(panel);
  }
  static F32x16 MultiplyAdd(__m512bh a, __m512bh b, F32x16 c) { return {_mm512_dpbf16_ps(c.v, a, b)}; }
};
#else
template <>
struct Step<Bf16> {
  static constexpr int kPhases = 2;
  template <int kPhase>
  static F32x16 Broadcast(const Bf16* a) {
    return Set(ToFloat(a[kPhase]));
  }
  // The lower or upper halves of 16 pairs, as floats.
  template <int kPhase>
  static F32x16 LoadPanel(const Bf16* panel) {
#if defined(__AVX512F__)
    const auto pairs = (__v16su)_mm512_loadu_si512(panel);
    return {(__m512)(kPhase == 0 ? pairs << 16 : pairs & 0xffff0000u)};
#elif defined(__AVX2__)
    const auto lo = (__v8su)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel));
    const auto hi = (__v8su)_mm256_loadu_si256(reinterpret_cast<const __m256i*>(panel + 16));
    return {(__m256)(kPhase == 0 ? lo << 16 : lo & 0xffff0000u), (__m256)(kPhase == 0 ? hi << 16 : hi & 0xffff0000u)};
#else
    F32x16 y;
    for (int i = 0; i < kLanes; ++i) y.v[i] = ToFloat(panel[2 * i + kPhase]);
    return y;
#endif
  }
  static F32x16 MultiplyAdd(F32x16 a, F32x16 b, F32x16 c) { return Fma(a, b, c); }
};
#endif

// Strides as in GemmTile; last_lanes (1..16) columns of the last vector exist.
struct Block {
  int64_t steps, a_row_stride, a_step_stride, ldc;
  int last_lanes;
  bool accumulate;
  Ahead ahead;
};

template <class T, int kPhase, int kRows, int kVectors>
[[gnu::always_inline]] inline void MultiplyPhase(const T* a, int64_t row, const T* panel,
                                                 F32x16 (&sum)[kRows][kVectors]) {
  constexpr int kDepth = kStepDepth<T>;
  decltype(Step<T>::template LoadPanel<kPhase>(panel)) b[kVectors];
#pragma GCC unroll 3
  for (int v = 0; v < kVectors; ++v) b[v] = Step<T>::template LoadPanel<kPhase>(panel + v * kLanes * kDepth);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const auto broadcast = Step<T>::template Broadcast<kPhase>(a + m * row);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sum[m][v] = Step<T>::MultiplyAdd(broadcast, b[v], sum[m][v]);
  }
}

// The sums of one block. Inlined, so that they never leave the registers.
template <class T, int kRows, int kVectors>
[[gnu::always_inline]] inline void SumBlock(const Block& block, const T* a, const T* panel, const float* c,
                                            F32x16 (&sum)[kRows][kVectors]) {
  constexpr int kDepth = kStepDepth<T>;
  const int64_t row = block.a_row_stride * kDepth, step = block.a_step_stride * kDepth;
  if (block.accumulate) {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) {
        sum[m][v] = LoadPart(c + m * block.ldc + v * kLanes, v < kVectors - 1 ? kLanes : block.last_lanes);
      }
    }
  } else {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sum[m][v] = Set(0.0f);
    }
  }
  const char* ahead = reinterpret_cast<const char*>(block.ahead.first ? block.ahead.first : panel);
  for (int64_t s = 0; s < block.steps; ++s) {
    _mm_prefetch(ahead, _MM_HINT_T1);
    ahead += block.ahead.stride;
    MultiplyPhase<T, 0>(a, row, panel, sum);
    if constexpr (Step<T>::kPhases == 2) MultiplyPhase<T, 1>(a, row, panel, sum);
    a += step;
    panel += kPanelColumns * kDepth;
  }
}

template <class T, int kRows, int kVectors>
void MultiplyBlock(const Block& block, const T* a, const T* panel, float* c) {
  F32x16 sum[kRows][kVectors];
  SumBlock(block, a, panel, c, sum);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      float* out = c + m * block.ldc + v * kLanes;
      if (v < kVectors - 1 || block.last_lanes == kLanes) {
        Store(out, sum[m][v]);
      } else {
        StorePart(out, sum[m][v], block.last_lanes);
      }
    }
  }
}

// A full block to `fixed`, whose sum is that of the block.
template <class T>
void MultiplyBlockFixed(const Block& block, const T* a, const T* panel, const float* c, FixedTile& fixed) {
  F32x16 sum[kBlockRows][kBlockVectors], largest = fixed.largest;
  SumBlock(block, a, panel, c, sum);
#pragma GCC unroll 8
  for (int m = 0; m < kBlockRows; ++m) {
#pragma GCC unroll 3
    for (int v = 0; v < kBlockVectors; ++v) {
      largest = LargerMagnitude(largest, sum[m][v]);
      AddFixed(fixed.sum + m * fixed.stride + v * kLanes, sum[m][v]);
    }
  }
  fixed.largest = largest;
}

// Any block that is in memory.
void AddBlockFixed(int rows, int columns, const float* c, int64_t ldc, FixedTile& fixed) {
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; n += kLanes) {
      const int lanes = columns - n < kLanes ? columns - n : kLanes;
      const F32x16 x = LoadPart(c + m * ldc + n, lanes);
      fixed.largest = LargerMagnitude(fixed.largest, x);
      int64_t* sum = fixed.sum + m * fixed.stride + n;
      if (lanes == kLanes) {
        AddFixed(sum, x);
      } else {
        AddFixedPart(sum, x, lanes);
      }
    }
  }
}

// The instance for each number of rows and vectors.
template <class T>
using BlockFunction = void (*)(const Block&, const T*, const T*, float*);
template <class T, int... kIndex>
constexpr std::array<BlockFunction<T>, sizeof...(kIndex)> BlockTable(std::integer_sequence<int, kIndex...>) {
  return {&MultiplyBlock<T, kIndex / kBlockVectors + 1, kIndex % kBlockVectors + 1>...};
}
template <class T>
constexpr auto kBlocks = BlockTable<T>(std::make_integer_sequence<int, kBlockRows * kBlockVectors>());

// Calls body(block, m, v, rows, vectors) for each block of a tile: rows from m, vectors of columns from v.
template <class Body>
inline void ForEachBlock(int64_t rows, int columns, Block block, const Body& body) {
  const int vectors = (columns + kLanes - 1) / kLanes;
  for (int64_t m = 0; m < rows; m += kBlockRows) {
    const int block_rows = static_cast<int>(rows - m < kBlockRows ? rows - m : kBlockRows);
    for (int v = 0; v < vectors; v += kBlockVectors) {
      const int block_vectors = vectors - v < kBlockVectors ? vectors - v : kBlockVectors;
      const int last = columns - (v + block_vectors - 1) * kLanes;
      block.last_lanes = last < kLanes ? last : kLanes;
      body(block, m, v, block_rows, block_vectors);
      block.ahead = {};  // once is enough
    }
  }
}

template <class T>
BlockFunction<T> FindBlock(int rows, int vectors) {
  return kBlocks<T>[(rows - 1) * kBlockVectors + vectors - 1];
}

}  // namespace

template <class T>
void GemmTile(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
              const T* panel, float* c, int64_t ldc, bool accumulate, Ahead ahead) {
  constexpr int kDepth = kStepDepth<T>;
  const Block whole = {steps, a_row_stride, a_step_stride, ldc, kLanes, accumulate, ahead};
  ForEachBlock(rows, columns, whole, [&](const Block& block, int64_t m, int v, int block_rows, int vectors) {
    FindBlock<T>(block_rows, vectors)(block, a + m * a_row_stride * kDepth, panel + v * kLanes * kDepth,
                                      c + m * ldc + v * kLanes);
  });
}

template <class T>
void GemmTileFixed(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
                   const T* panel, float* c, int64_t ldc, bool accumulate, FixedTile& fixed, Ahead ahead) {
  constexpr int kDepth = kStepDepth<T>;
  const Block whole = {steps, a_row_stride, a_step_stride, ldc, kLanes, accumulate, ahead};
  ForEachBlock(rows, columns, whole, [&](const Block& block, int64_t m, int v, int block_rows, int vectors) {
    const T* block_a = a + m * a_row_stride * kDepth;
    const T* block_panel = panel + v * kLanes * kDepth;
    float* block_c = c + m * ldc + v * kLanes;
    FixedTile part = {fixed.sum + m * fixed.stride + v * kLanes, fixed.stride, fixed.largest};
    if (block_rows == kBlockRows && vectors == kBlockVectors && block.last_lanes == kLanes) {
      MultiplyBlockFixed<T>(block, block_a, block_panel, block_c, part);
    } else {
      FindBlock<T>(block_rows, vectors)(block, block_a, block_panel, block_c);
      AddBlockFixed(block_rows, (vectors - 1) * kLanes + block.last_lanes, block_c, ldc, part);
    }
    fixed.largest = part.largest;
  });
}

template void GemmTile(int64_t, int, int64_t, const float*, int64_t, int64_t, const float*, float*, int64_t, bool,
                       Ahead);
template void GemmTile(int64_t, int, int64_t, const Bf16*, int64_t, int64_t, const Bf16*, float*, int64_t, bool, Ahead);
template void GemmTileFixed(int64_t, int, int64_t, const float*, int64_t, int64_t, const float*, float*, int64_t, bool,
                            FixedTile&, Ahead);
template void GemmTileFixed(int64_t, int, int64_t, const Bf16*, int64_t, int64_t, const Bf16*, float*, int64_t, bool,
                            FixedTile&, Ahead);

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
