// SPDX-License-Identifier: Apache-2.0
// The tile kernel for bf16 on processors that multiply whole tiles (Intel's AMX): one instruction adds the products of
// 16 rows by 16 pairs of k and 16 pairs of k by 16 columns, 16,384 FLOPs in 16 cycles, 16 times what f32 has.
//
// An element's chain is one of such groups of 16 pairs: the even and the odd products of a group are two chains of
// multiply-adds, whose sum is added to c; denormals are zeros, rounding is to nearest-even (Intel's manual, TDPBF16PS).
// A last group that is not full is filled with zeros, which change nothing. So the bits depend on k alone, as in all
// tile kernels, as long as callers cut chains at multiples of kChainSteps.
//
// A block is up to 2 x 3 tiles of c in six of the eight registers; the other two hold the tiles of a and of the panel
// that are multiplied next. A step of 16 pairs then is 7 loads of 8 cycles under 6 products of 16.
#include "core/device/cpu/gemm_tile.h"

#if defined(__AMX_BF16__)

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/check.h"
#include "core/device/cpu/amx.h"
#include "core/device/cpu/transpose.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int kSide = 16;           // rows, columns and pairs of k of a tile
constexpr int64_t kSideBytes = 64;  // of a row of a tile: 16 floats or 16 pairs
constexpr int kRowTiles = 2, kColumnTiles = kPanelColumns / kSide;
constexpr int64_t kPanelStep = 2 * kPanelColumns;  // elements
constexpr int kLinesPerStep = 2;                   // to fetch ahead, in 96 cycles
static_assert(kSide == kChainSteps<Bf16>);

// ---- The registers; by assembly, because the intrinsics of GCC 12 do not tell the compiler what memory they read. ---
constexpr int kA = 6, kB = 7;  // the others: c, row by row of tiles

template <int kRegister>
[[gnu::always_inline]] inline void LoadTile(const void* first, int64_t stride_bytes) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(first), "r"(stride_bytes), "i"(kRegister) : "memory");
}
template <int kRegister>
[[gnu::always_inline]] inline void StoreTile(void* first, int64_t stride_bytes) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(first), "r"(stride_bytes), "i"(kRegister) : "memory");
}
template <int kRegister>
[[gnu::always_inline]] inline void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kRegister));
}
template <int kRegister>
[[gnu::always_inline]] inline void MultiplyAdd() {  // register += a b
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kRegister), "i"(kA), "i"(kB));
}

// ---- Memory that does not hold whole tiles takes a detour. ----------------------------------------------------------
struct TileAt {
  const void* first;
  int64_t stride_bytes;
};

// The left operand; strides in pairs.
struct LeftRows {
  const Bf16* a;
  int64_t row_stride, step_stride;

  // Pairs [step, step + pairs) of `rows` rows, at most 16 each, as a tile: where they stand, or in `buffer`.
  TileAt At(int64_t row, int64_t rows, int64_t step, int64_t pairs, uint32_t* buffer) const {
    const auto* words = reinterpret_cast<const uint32_t*>(a);  // only loaded by instructions that may alias
    const uint32_t* first = words + row * row_stride + step * step_stride;
    if (step_stride != 1) {
      CHECK_EQ(row_stride, 1);
      TransposeBlock({first, step_stride, static_cast<int>(pairs), static_cast<int>(rows)}, buffer, kSide, kSide);
      return {buffer, kSideBytes};
    }
    if (rows == kSide && pairs == kSide) return {first, row_stride * int64_t{sizeof(*words)}};
    const __mmask16 mask = FirstLanes(static_cast<int>(pairs));
    for (int64_t m = 0; m < rows; ++m)
      _mm512_store_si512(buffer + m * kSide, _mm512_maskz_loadu_epi32(mask, first + m * row_stride));
    return {buffer, kSideBytes};
  }
};

struct TileProduct {
  int64_t steps;
  LeftRows left;
  const Bf16* panel;
  const Bf16* last;  // the panel's pairs of a last group that is not full, with zeros behind them
  bool accumulate;
};

// Tiles of c, which stand in `c` in full width.
template <int kRows, int kColumns>
class TileBlock {
 public:
  static void Run(const TileProduct& product, int64_t row, int64_t rows, float* c, int64_t ldc, Ahead& ahead) {
    ForEachTile([&]<int kIndex>() {
      if (product.accumulate) {
        LoadTile<Register(kIndex)>(Address(c, ldc, kIndex), ldc * int64_t{sizeof(float)});
      } else {
        ZeroTile<Register(kIndex)>();
      }
    });
    alignas(64) uint32_t buffer[kRows][kSide * kSide];
    for (int64_t step = 0; step < product.steps; step += kSide) {
      const int64_t pairs = std::min<int64_t>(kSide, product.steps - step);
      TileAt a[kRows];
      for (int m = 0; m < kRows; ++m) {
        const int64_t here = std::min<int64_t>(kSide, rows - m * kSide);
        a[m] = product.left.At(row + m * kSide, here, step, pairs, buffer[m]);
      }
      const Ahead::Lines lines = ahead.Take(kLinesPerStep);
      for (int64_t i = 0; i < lines.count; ++i) _mm_prefetch(lines.first + i * Ahead::kLine, _MM_HINT_T1);
      Step(a, pairs == kSide ? product.panel + step * kPanelStep : product.last);
    }
    ForEachTile(
        [&]<int kIndex>() { StoreTile<Register(kIndex)>(Address(c, ldc, kIndex), ldc * int64_t{sizeof(float)}); });
  }

 private:
  // The tiles in the order in which they are multiplied: each shares an operand with the one before.
  static constexpr int RowOf(int index) { return index / kRows % 2 == 0 ? index % kRows : kRows - 1 - index % kRows; }
  static constexpr int ColumnOf(int index) { return index / kRows; }
  static constexpr int Register(int index) { return RowOf(index) * kColumns + ColumnOf(index); }

  template <class Body>
  [[gnu::always_inline]] static void ForEachTile(const Body& body) {
    [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) { (body.template operator()<kIndex>(), ...); }
    (std::make_integer_sequence<int, kRows * kColumns>());
  }

  static float* Address(float* c, int64_t ldc, int index) {
    return c + RowOf(index) * kSide * ldc + ColumnOf(index) * kSide;
  }

  [[gnu::always_inline]] static void Step(const TileAt (&a)[kRows], const Bf16* panel) {
    ForEachTile([&]<int kIndex>() {
      constexpr int kBefore = kIndex - 1;
      if constexpr (kIndex == 0 || RowOf(kIndex) != RowOf(kBefore))
        LoadTile<kA>(a[RowOf(kIndex)].first, a[RowOf(kIndex)].stride_bytes);
      if constexpr (kIndex == 0 || ColumnOf(kIndex) != ColumnOf(kBefore))
        LoadTile<kB>(panel + ColumnOf(kIndex) * 2 * kSide, kPanelStep * int64_t{sizeof(Bf16)});
      MultiplyAdd<Register(kIndex)>();
    });
  }
};

using BlockRun = void (*)(const TileProduct&, int64_t, int64_t, float*, int64_t, Ahead&);
constexpr std::array<std::array<BlockRun, kColumnTiles>, kRowTiles> kBlockRuns = {{
    {&TileBlock<1, 1>::Run, &TileBlock<1, 2>::Run, &TileBlock<1, 3>::Run},
    {&TileBlock<2, 1>::Run, &TileBlock<2, 2>::Run, &TileBlock<2, 3>::Run},
}};

int CountTiles(int64_t elements) { return static_cast<int>((elements + kSide - 1) / kSide); }

void CopyRows(int64_t rows, int columns, const float* from, int64_t from_stride, float* to, int64_t to_stride) {
  for (int64_t m = 0; m < rows; ++m) std::copy_n(from + m * from_stride, columns, to + m * to_stride);
}

}  // namespace

template <>
void GemmTile(int64_t rows, int columns, int64_t steps, const Bf16* a, int64_t a_row_stride, int64_t a_step_stride,
              const Bf16* panel, float* c, int64_t ldc, bool accumulate, Ahead& ahead) {
  constexpr int64_t kBlockRows = kRowTiles * kSide;
  ConfigureAmx();
  alignas(64) Bf16 last[kSide * kPanelStep];
  if (const int64_t whole = steps - steps % kSide; whole < steps) {
    const int64_t elements = (steps - whole) * kPanelStep;
    std::copy_n(panel + whole * kPanelStep, elements, last);
    std::fill(last + elements, last + kSide * kPanelStep, Bf16{});
  }
  const TileProduct product = {steps, {a, a_row_stride, a_step_stride}, panel, last, accumulate};
  for (int64_t row = 0; row < rows; row += kBlockRows) {
    const int64_t here = std::min(kBlockRows, rows - row);
    const BlockRun run = kBlockRuns[CountTiles(here) - 1][CountTiles(columns) - 1];
    float* const to = c + row * ldc;
    if (here % kSide == 0 && columns % kSide == 0) {
      run(product, row, here, to, ldc, ahead);
      continue;
    }
    alignas(64) float whole_tiles[kBlockRows * kPanelColumns];
    if (accumulate) CopyRows(here, columns, to, ldc, whole_tiles, kPanelColumns);
    run(product, row, here, whole_tiles, kPanelColumns, ahead);
    CopyRows(here, columns, whole_tiles, kPanelColumns, to, ldc);
  }
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET

#endif
