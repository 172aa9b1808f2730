// SPDX-License-Identifier: Apache-2.0
// Packing into panels. Transpositions go by 4 x 4 blocks of 32-bit words (one f32, or one bf16 pair), which every
// x86-64 does in registers; 48 columns by 16 words of k at a time stay in the first-level cache.
#include "core/device/cpu/pack.h"

#include <cstring>
#include <type_traits>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/transpose.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kWord = 4;  // bytes that one column takes in one step of a panel, f32 or a bf16 pair

// Word (i, j) of out = word (j, i) of in, for 4 x 4 words; strides in bytes.
inline void Transpose4x4(const void* in, int64_t in_stride, void* out, int64_t out_stride) {
  const auto source = [&](int i) {
    return _mm_loadu_ps(reinterpret_cast<const float*>(static_cast<const char*>(in) + i * in_stride));
  };
  __m128 r0 = source(0), r1 = source(1), r2 = source(2), r3 = source(3);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  const auto target = [&](int i) { return reinterpret_cast<float*>(static_cast<char*>(out) + i * out_stride); };
  _mm_storeu_ps(target(0), r0);
  _mm_storeu_ps(target(1), r1);
  _mm_storeu_ps(target(2), r2);
  _mm_storeu_ps(target(3), r3);
}

// The first n of 16 elements as floats, zeros behind them. Reads nothing for n <= 0, all for n >= 16.
template <class Source>
inline F32x16 LoadUpTo(const Source* source, int64_t n) {
  if (n >= kLanes) return Load(source);
  return n > 0 ? LoadPart(source, static_cast<int>(n)) : Set(0.0f);
}

// Step by step: the words of 4 columns, from 4 rows that hold them contiguously.
inline void TransposeWords(const void* rows, int64_t row_stride, int64_t steps, char* out) {
  constexpr int64_t kOutStride = kPanelColumns * kWord;
  const char* in = static_cast<const char*>(rows);
  int64_t s = 0;
  for (; s + 4 <= steps; s += 4) Transpose4x4(in + s * kWord, row_stride, out + s * kOutStride, kOutStride);
  for (; s < steps; ++s) {
    for (int i = 0; i < 4; ++i) {
      std::memcpy(out + s * kOutStride + i * kWord, in + i * row_stride + s * kWord, kWord);
    }
  }
}

// How values from a tensor of Source are stored: those of T need no rounding.
template <class T, class Source>
using Rounding = std::conditional_t<std::is_same_v<Source, T>, Operand<T>, T>;

#if defined(__AVX512BF16__)
// Sixteen bf16 values, rounded from floats or as they are.
inline __m256i LoadHalves(const float* row, int64_t n) { return detail::RoundToBf16(LoadUpTo(row, n).v); }
inline __m256i LoadHalves(const Bf16* row, int64_t n) {
  return n >= kLanes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row))
                     : _mm256_maskz_loadu_epi16(FirstLanes(n > 0 ? static_cast<int>(n) : 0), row);
}
#endif

// Sixteen columns of one step to a panel, from the rows of its k; `n` of them exist.
template <class T, class Source>
inline void PackStep(const Source* row, [[maybe_unused]] const Source* second_row, int64_t n, Operand<T>* out) {
#if defined(__AVX512BF16__)
  if constexpr (kStepDepth<T> == 2) {  // a pair; without a second row (an odd end) zeros take its place
    const auto low = (__v16su)_mm512_cvtepu16_epi32(LoadHalves(row, n));
    const auto high = (__v16su)_mm512_cvtepu16_epi32(LoadHalves(second_row ? second_row : row, second_row ? n : 0));
    _mm512_storeu_si512(out, (__m512i)(low | high << 16));
    return;
  }
#endif
  StoreOperands<Rounding<T, Source>>(out, LoadUpTo(row, n));
}

}  // namespace

template <class T, class Source>
void PackPanelFromRows(int64_t depth, int columns, const Source* source, int64_t stride, Operand<T>* panel) {
  constexpr int64_t kDepth = kStepDepth<T>, kBlockSteps = 16, kBlockDepth = kBlockSteps * kDepth;
  const int64_t steps = PanelSteps<T>(depth);
  alignas(64) Operand<T> rows[4][kBlockDepth];  // a piece of four rows of the source, rounded and padded
  for (int64_t s = 0; s < steps; s += kBlockSteps) {
    const int64_t k = s * kDepth, here = steps - s < kBlockSteps ? steps - s : kBlockSteps;
    for (int n = 0; n < kPanelColumns; n += 4) {
      char* out = reinterpret_cast<char*>(panel + (s * kPanelColumns + n) * kDepth);
      if (std::is_same_v<Source, T> && std::is_same_v<T, Operand<T>> && n + 4 <= columns &&
          k + here * kDepth <= depth) {
        TransposeWords(source + n * stride + k, stride * static_cast<int64_t>(sizeof(Source)), here, out);
        continue;
      }
      for (int i = 0; i < 4; ++i) {
        const int64_t exist = n + i < columns ? depth - k : 0;
        for (int64_t j = 0; j < kBlockDepth; j += kLanes) {
          const F32x16 x = exist > j ? LoadUpTo(source + (n + i) * stride + k + j, exist - j) : Set(0.0f);
          StoreOperands<Rounding<T, Source>>(rows[i] + j, x);
        }
      }
      TransposeWords(rows, sizeof(rows[0]), here, out);
    }
  }
}

// Brings the 48 columns of a later row close: rows are so far apart that no processor expects the next one.
constexpr int64_t kFetchDistance = 16;
template <class Source>
[[gnu::always_inline]] inline void FetchRow(const Source* row) {
  constexpr int64_t kLineElements = 64 / sizeof(Source);
#pragma GCC unroll 4
  for (int64_t i = 0; i < kPanelColumns; i += kLineElements) __builtin_prefetch(row + i);
}

template <class T, class Source>
void PackPanelsFromColumns(int64_t depth, int64_t columns, const Source* source, int64_t stride, Operand<T>* panels,
                           int64_t pitch) {
  constexpr int kDepth = kStepDepth<T>;
  const auto pack =
      [](const Source* row, const Source* second_row, int64_t n, Operand<T>* out) __attribute__((always_inline)) {
#pragma GCC unroll 3
    for (int v = 0; v < kPanelColumns; v += kLanes) {
      PackStep<T>(row + v, second_row ? second_row + v : nullptr, n - v, out + v * kDepth);
    }
  };
  const int64_t whole = columns / kPanelColumns, rest = columns % kPanelColumns, pairs = depth - depth % kDepth;
  Operand<T>* step = panels;
  for (int64_t k = 0; k < pairs; k += kDepth, step += kPanelColumns * kDepth) {  // most of it, without masks
    const Source* row = source + k * stride;
    Operand<T>* out = step;
    for (int64_t panel = 0; panel < whole; ++panel, row += kPanelColumns, out += pitch) {
      FetchRow(row + kFetchDistance * stride);
      pack(row, row + stride, kPanelColumns, out);
    }
  }
  for (int64_t panel = 0; panel < whole && pairs < depth; ++panel) {
    pack(source + pairs * stride + panel * kPanelColumns, nullptr, kPanelColumns, step + panel * pitch);
  }
  if (rest == 0) return;
  step = panels + whole * pitch;
  for (int64_t k = 0; k < depth; k += kDepth, step += kPanelColumns * kDepth) {
    const Source* row = source + k * stride + whole * kPanelColumns;
    pack(row, k + 1 < depth ? row + stride : nullptr, rest, step);
  }
}

template <class T, class Source>
void PackLeft(int64_t depth, int columns, const Source* source, int64_t stride, [[maybe_unused]] int64_t steps,
              Operand<T>* out) {
#if defined(__AMX_BF16__)
  if constexpr (kLeftByRows<T>) {
    constexpr int64_t kDepth = kLanes * kStepDepth<T>;
    alignas(64) Operand<T> panel[PanelElements<T>(kDepth)];
    for (int64_t k = 0; k < depth; k += kDepth, out += kDepth) {
      const int64_t here = depth - k < kDepth ? depth - k : kDepth;
      PackPanelsFromColumns<T>(here, columns, source + k * stride, stride, panel, 0);
      for (int n = 0; n < columns; n += kLanes) {
        const WordBlock block = {reinterpret_cast<const uint32_t*>(panel) + n, kPanelColumns,
                                 static_cast<int>(PanelSteps<T>(here)), columns - n < kLanes ? columns - n : kLanes};
        TransposeBlock(block, reinterpret_cast<uint32_t*>(out) + n * steps, steps, block.rows);
      }
    }
    return;
  }
#endif
  PackPanelsFromColumns<T>(depth, columns, source, stride, out, 0);
}

template <class T, class Source>
void PackRow(const Source* row, int64_t n, Operand<T>* out) {
  const int64_t padded = PanelSteps<T>(n) * kStepDepth<T>;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreOperands<Rounding<T, Source>>(out + i, Load(row + i));
  if (i == padded) return;
  alignas(64) Operand<T> last[kLanes];
  StoreOperands<Rounding<T, Source>>(last, LoadUpTo(row + i, n - i));
  std::memcpy(out + i, last, static_cast<size_t>(padded - i) * sizeof(Operand<T>));
}

template void PackPanelFromRows<float>(int64_t, int, const float*, int64_t, Operand<float>*);
template void PackPanelsFromColumns<float>(int64_t, int64_t, const float*, int64_t, Operand<float>*, int64_t);
template void PackLeft<float>(int64_t, int, const float*, int64_t, int64_t, Operand<float>*);
template void PackRow<float>(const float*, int64_t, Operand<float>*);
template void PackPanelFromRows<float>(int64_t, int, const Bf16*, int64_t, Operand<float>*);
template void PackPanelsFromColumns<float>(int64_t, int64_t, const Bf16*, int64_t, Operand<float>*, int64_t);
template void PackLeft<float>(int64_t, int, const Bf16*, int64_t, int64_t, Operand<float>*);
template void PackRow<float>(const Bf16*, int64_t, Operand<float>*);
template void PackPanelFromRows<Bf16>(int64_t, int, const float*, int64_t, Operand<Bf16>*);
template void PackPanelsFromColumns<Bf16>(int64_t, int64_t, const float*, int64_t, Operand<Bf16>*, int64_t);
template void PackLeft<Bf16>(int64_t, int, const float*, int64_t, int64_t, Operand<Bf16>*);
template void PackRow<Bf16>(const float*, int64_t, Operand<Bf16>*);
template void PackPanelFromRows<Bf16>(int64_t, int, const Bf16*, int64_t, Operand<Bf16>*);
template void PackPanelsFromColumns<Bf16>(int64_t, int64_t, const Bf16*, int64_t, Operand<Bf16>*, int64_t);
template void PackLeft<Bf16>(int64_t, int, const Bf16*, int64_t, int64_t, Operand<Bf16>*);
template void PackRow<Bf16>(const Bf16*, int64_t, Operand<Bf16>*);

namespace {

// Up to 48 rows, from `first` on, of one f32 matrix [n, k] of the weights.
struct WeightRows {
  const float* first;
  int64_t n, k, row_stride;
  int64_t matrix, block;  // rows before: 48 block
};

// One panel of the forward orientation.
void PackForward(const WeightRows& rows, const PackedWeight& packed) {
  DispatchFloat(packed.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* panels = packed.panels.As<Operand<T>>() + rows.matrix * MatrixPanelElements<T>(rows.n, rows.k);
    PackPanelFromRows<T>(rows.k, ColumnsOfPanel(rows.n, rows.block), rows.first, rows.row_stride,
                         panels + rows.block * PanelElements<T>(rows.k));
  });
}

// Some steps of all panels of the backward orientation.
void PackBackward(const WeightRows& rows, const PackedWeight& packed) {
  static_assert(kPanelColumns % 2 == 0);  // no pair of bf16 is in two blocks
  DispatchFloat(packed.dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* panels = packed.panels.As<Operand<T>>() + rows.matrix * MatrixPanelElements<T>(rows.k, rows.n);
    PackPanelsFromColumns<T>(ColumnsOfPanel(rows.n, rows.block), rows.k, rows.first, rows.row_stride,
                             panels + rows.block * PanelElements<T>(kPanelColumns), PanelElements<T>(rows.n));
  });
}

}  // namespace

int64_t CpuKernels::PackedBytes(DType dtype, int64_t matrices, int64_t out, int64_t in) const {
  int64_t bytes = 0;
  DispatchFloat(dtype, [&](auto zero) {
    using T = decltype(zero);
    bytes = matrices * MatrixPanelElements<T>(out, in) * static_cast<int64_t>(sizeof(Operand<T>));
  });
  return bytes;
}

void CpuKernels::PackWeight(Tensor weights, const PackedWeight& forward, const PackedWeight& backward) {
  const int rank = weights.rank;
  CHECK(weights.dtype == DType::kF32);
  CHECK(rank == 2 || rank == 3);
  const int64_t matrices = rank == 3 ? weights.size(0) : 1, n = weights.size(rank - 2), k = weights.size(rank - 1);
  const auto check = [&](const PackedWeight& packed, int64_t out, int64_t in) {
    if (!packed.panels) return;
    CHECK_EQ(packed.matrices, matrices);
    CHECK_EQ(packed.out, out);
    CHECK_EQ(packed.in, in);
    CHECK_GE(packed.panels.Bytes(), PackedBytes(packed.dtype, matrices, out, in));
  };
  check(forward, n, k);
  check(backward, k, n);
  const int64_t blocks = NumPanels(n);
  pool_.ParallelFor(matrices * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t item = begin; item < end; ++item) {  // both orientations while the rows are close
      const int64_t matrix = item / blocks, block = item % blocks, row_stride = weights.stride(rank - 2);
      const float* first = weights.As<float>() + (rank == 3 ? matrix * weights.stride(0) : 0);
      const WeightRows rows = {first + block * kPanelColumns * row_stride, n, k, row_stride, matrix, block};
      if (forward.panels) PackForward(rows, forward);
      if (backward.panels) PackBackward(rows, backward);
    }
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
