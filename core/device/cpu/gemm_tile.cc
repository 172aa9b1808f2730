// SPDX-License-Identifier: Apache-2.0
// The tile kernel, written once: operand type and instruction set differ only in how a step is loaded and multiplied.
#include "core/device/cpu/gemm_tile.h"

#include <array>
#include <cstring>
#include <utility>

#include "core/device/cpu/register.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int kWidth = Register::kWidth, kTileRegisters = kPanelColumns / kWidth;

// The blocks into which the registers make us cut a tile (gemm_tile.h says why): so many registers of columns by so
// many rows. One or two rows, as in decoding, need all columns for enough chains, and one register of columns all rows.
constexpr int BlockRegisters([[maybe_unused]] int64_t rows) {
#if defined(__AVX512F__)
  return kTileRegisters;
#elif defined(__AVX2__)
  return rows <= 2 ? kTileRegisters : kTileRegisters / 2;
#else
  return 1;
#endif
}
constexpr int BlockRows([[maybe_unused]] int registers) {
#if defined(__AVX512F__)
  return kTileRows;
#elif defined(__AVX2__)
  return registers == 1 ? kTileRows : registers <= kTileRegisters / 2 ? kTileRows / 2 : 2;
#else
  return 1;
#endif
}

// How one step of T is multiplied.
template <class T>
struct Step;

template <>
struct Step<float> {
  static Register BroadcastOf(const float* a) { return Broadcast(*a); }
  static Register LoadPanel(const float* panel) { return LoadRegister(panel); }
  static Register MultiplyAdd(Register a, Register b, Register c) { return Fma(a, b, c); }
};

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
template <>
struct Step<Bf16> {
  static __m512bh BroadcastOf(const Bf16* a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof(pair));
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  static __m512bh LoadPanel(const Bf16* panel) { return (__m512bh)_mm512_loadu_si512(panel); }
  static Register MultiplyAdd(__m512bh a, __m512bh b, Register c) { return {_mm512_dpbf16_ps(c.v, a, b)}; }
};
#endif

// A line is fetched ahead every so many steps, of 6 or 12 cycles each. Lines are taken for a run of steps; of those of
// a last run that is shorter some may be left out.
constexpr int64_t kStepsPerLine = 2, kRunSteps = 32;

// Strides as in GemmTile; last_lanes (at least 1) columns of the last register exist.
struct Block {
  int64_t steps, a_row_stride, a_step_stride, ldc;
  int last_lanes;
  bool accumulate;
  Ahead* ahead;
};

template <class T, int kRows, int kRegisters>
[[gnu::always_inline]] inline void MultiplyStep(const T* a, int64_t row, const T* panel,
                                                Register (&sum)[kRows][kRegisters]) {
  constexpr int kOperands = kWidth * static_cast<int>(sizeof(float) / sizeof(T));  // of a register of the panel
  if constexpr (kRegisters > kTileRegisters / 2 && kRows <= 2) {  // all columns: those of the panel do not fit at once
    decltype(Step<T>::BroadcastOf(a)) x[kRows];
#pragma GCC unroll 2
    for (int m = 0; m < kRows; ++m) x[m] = Step<T>::BroadcastOf(a + m * row);
#pragma GCC unroll 6
    for (int v = 0; v < kRegisters; ++v) {
      const auto b = Step<T>::LoadPanel(panel + v * kOperands);
#pragma GCC unroll 2
      for (int m = 0; m < kRows; ++m) sum[m][v] = Step<T>::MultiplyAdd(x[m], b, sum[m][v]);
    }
  } else {
    decltype(Step<T>::LoadPanel(panel)) b[kRegisters];
#pragma GCC unroll 3
    for (int v = 0; v < kRegisters; ++v) b[v] = Step<T>::LoadPanel(panel + v * kOperands);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const auto x = Step<T>::BroadcastOf(a + m * row);
#pragma GCC unroll 3
      for (int v = 0; v < kRegisters; ++v) sum[m][v] = Step<T>::MultiplyAdd(x, b[v], sum[m][v]);
    }
  }
}

// sum[m][v] for all m, v, unrolled: it must never leave the registers.
template <int kRows, int kRegisters, class Body>
[[gnu::always_inline]] inline void ForEachSum(const Body& body) {
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 6
    for (int v = 0; v < kRegisters; ++v) body(m, v);
  }
}

template <class T, int kRows, int kRegisters>
void MultiplyBlock(const Block& block, const T* a, const T* panel, float* c) {
  constexpr int kDepth = static_cast<int>(sizeof(float) / sizeof(T));  // operands of a step
  const int64_t row = block.a_row_stride * kDepth, step = block.a_step_stride * kDepth;
  const auto whole = [&](int v) { return v < kRegisters - 1 || block.last_lanes == kWidth; };
  Register sum[kRows][kRegisters];
  ForEachSum<kRows, kRegisters>([&](int m, int v) __attribute__((always_inline)) {
    const float* from = c + m * block.ldc + v * kWidth;
    sum[m][v] = !block.accumulate ? Broadcast(0.0f)
                : whole(v)        ? LoadRegister(from)
                                  : LoadRegister(from, block.last_lanes);
  });
  for (int64_t left = block.steps; left > 0;) {
    const int64_t here = left < kRunSteps ? left : kRunSteps;
    const Ahead::Lines lines = block.ahead->Take(here / kStepsPerLine);
    // One line every few steps; what is close costs nothing.
    const char* ahead = lines.count > 0 ? lines.first : reinterpret_cast<const char*>(panel);
    const int64_t ahead_bytes = lines.count * Ahead::kLine / kRunSteps;
#pragma GCC unroll 4  // the end of the loop costs a misprediction, and a step is only 12 or 24 multiply-adds
    for (int64_t s = 0; s < here; ++s) {
      _mm_prefetch(ahead, _MM_HINT_T1);
      ahead += ahead_bytes;
      MultiplyStep<T>(a, row, panel, sum);
      a += step;
      panel += kPanelColumns * kDepth;
    }
    left -= here;
  }
  ForEachSum<kRows, kRegisters>([&](int m, int v) __attribute__((always_inline)) {
    float* to = c + m * block.ldc + v * kWidth;
    if (whole(v)) {
      StoreRegister(to, sum[m][v]);
    } else {
      StoreRegister(to, sum[m][v], block.last_lanes);
    }
  });
}

// The instance for each number of rows and registers; those that no tile is cut into are null.
template <class T>
using BlockFunction = void (*)(const Block&, const T*, const T*, float*);
template <class T, int kRows, int kRegisters>
constexpr BlockFunction<T> BlockOrNull() {
  if constexpr (kRows <= BlockRows(kRegisters)) {
    return &MultiplyBlock<T, kRows, kRegisters>;
  } else {
    return nullptr;
  }
}
template <class T, int... kIndex>
constexpr std::array<BlockFunction<T>, sizeof...(kIndex)> BlockTable(std::integer_sequence<int, kIndex...>) {
  return {BlockOrNull<T, kIndex / kTileRegisters + 1, kIndex % kTileRegisters + 1>()...};
}
template <class T>
constexpr auto kBlocks = BlockTable<T>(std::make_integer_sequence<int, kTileRows * kTileRegisters>());

}  // namespace

template <class T>
void GemmTile(int64_t rows, int columns, int64_t steps, const T* a, int64_t a_row_stride, int64_t a_step_stride,
              const T* panel, float* c, int64_t ldc, bool accumulate, Ahead& ahead) {
  constexpr int kDepth = static_cast<int>(sizeof(float) / sizeof(T));
  const int all = (columns + kWidth - 1) / kWidth, most = BlockRegisters(rows);
  Block block = {steps, a_row_stride, a_step_stride, ldc, kWidth, accumulate, &ahead};
  for (int v = 0; v < all; v += most) {
    const int registers = all - v < most ? all - v : most, last = columns - (v + registers - 1) * kWidth;
    const int64_t block_rows = BlockRows(registers);
    block.last_lanes = last < kWidth ? last : kWidth;
    for (int64_t m = 0; m < rows; m += block_rows) {
      const int64_t here = rows - m < block_rows ? rows - m : block_rows;
      kBlocks<T>[static_cast<size_t>((here - 1) * kTileRegisters + registers - 1)](
          block, a + m * a_row_stride * kDepth, panel + v * kWidth * kDepth, c + m * ldc + v * kWidth);
    }
  }
}

template void GemmTile(int64_t, int, int64_t, const float*, int64_t, int64_t, const float*, float*, int64_t, bool,
                       Ahead&);
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
template void GemmTile(int64_t, int, int64_t, const Bf16*, int64_t, int64_t, const Bf16*, float*, int64_t, bool,
                       Ahead&);
#endif

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
