// SPDX-License-Identifier: Apache-2.0
// Panels: the right operand of the tile kernel (gemm_tile.h), 48 columns wide, k outermost, so that a step reads one
// contiguous piece. float: [K][48]. Bf16: [ceil(K / 2)][48][2], the pairs of k that vdpbf16ps multiplies at once.
// Columns beyond the matrix and the second half of an odd last pair are zeros.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/simd.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kPanelColumns = 48;

// What the tile kernel multiplies where tensors hold T. Products of bf16 pairs take vdpbf16ps; a target without it
// keeps the same values as floats: twice the bytes, and the speed of f32.
#if defined(__AVX512BF16__)
template <class T>
using Operand = T;
#else
template <class T>
using Operand = float;
#endif

// Values of k in one step of a panel for T.
template <class T>
inline constexpr int kStepDepth = static_cast<int>(sizeof(float) / sizeof(Operand<T>));

template <class T>
constexpr int64_t PanelSteps(int64_t depth) {
  return (depth + kStepDepth<T> - 1) / kStepDepth<T>;
}
template <class T>
constexpr int64_t PanelElements(int64_t depth) {
  return PanelSteps<T>(depth) * kPanelColumns * kStepDepth<T>;
}

constexpr int64_t NumPanels(int64_t columns) { return (columns + kPanelColumns - 1) / kPanelColumns; }

// Elements of all panels of a matrix with `out` columns and sums of length `in`.
template <class T>
constexpr int64_t MatrixPanelElements(int64_t out, int64_t in) {
  return NumPanels(out) * PanelElements<T>(in);
}

// Columns that panel `panel` of a matrix with `out` columns really has.
inline int ColumnsOfPanel(int64_t out, int64_t panel) {
  const int64_t left = out - panel * kPanelColumns;
  return static_cast<int>(left < kPanelColumns ? left : kPanelColumns);
}

// Rounds sixteen values to T (nearest-even) and stores them as operands.
template <class T>
[[gnu::always_inline]] inline void StoreOperands(Operand<T>* out, F32x16 x) {
  if constexpr (std::is_same_v<T, Bf16> && std::is_same_v<Operand<T>, float>) {
    Store(out, RoundedToBf16(x));
  } else {
    Store(out, x);
  }
}

// The following round their source (float or Bf16) to T likewise.

// Fills the panel of B [depth, columns], columns <= 48, with B(k, n) = source[n * stride + k]: rows of W [N, K], keys.
// A transposition.
template <class T, class Source>
void PackPanelFromRows(int64_t depth, int columns, const Source* source, int64_t stride, Operand<T>* panel);
// Fills all panels of B(k, n) = source[k * stride + n], n < columns, `pitch` elements apart: values, x of a weight
// gradient. The source is read row by row.
template <class T, class Source>
void PackPanelsFromColumns(int64_t depth, int64_t columns, const Source* source, int64_t stride, Operand<T>* panels,
                           int64_t pitch);
// The left operand of a product that sums over the rows of its source, up to 48 columns of it: a(n, k) =
// source[k * stride + n]. A panel, too, whose columns are the rows of a. Where the tile kernel wants a row in one piece
// (AMX) they stand `steps` steps apart in the same memory. LeftAt: from `step` on.
#if defined(__AMX_BF16__)
template <class T>
inline constexpr bool kLeftByRows = kStepDepth<T> == 2;
#else
template <class T>
inline constexpr bool kLeftByRows = false;
#endif
template <class T>
constexpr int64_t LeftRowStride(int64_t steps) {
  return kLeftByRows<T> ? steps : 1;
}
template <class T>
inline constexpr int64_t kLeftStepStride = kLeftByRows<T> ? 1 : kPanelColumns;
template <class T, class Element>
Element* LeftAt(Element* packed, int64_t step) {
  return packed + step * kLeftStepStride<T> * kStepDepth<T>;
}
template <class T, class Source>
void PackLeft(int64_t depth, int columns, const Source* source, int64_t stride, int64_t steps, Operand<T>* out);

// The left operand otherwise: a row of n values, with a zero behind an odd last one where steps are pairs.
template <class T, class Source>
void PackRow(const Source* row, int64_t n, Operand<T>* out);

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
