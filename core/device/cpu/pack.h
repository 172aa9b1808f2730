// SPDX-License-Identifier: Apache-2.0
// Panels: the right operand of the tile kernel (gemm_tile.h), 48 columns wide, k outermost, so that a step reads one
// contiguous piece. f32: [K][48]. bf16: [ceil(K / 2)][48][2], the pairs of k that vdpbf16ps multiplies at once.
// Columns beyond the matrix and the second half of an odd last pair are zeros.
#pragma once

#include <cstdint>

#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/simd.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kPanelColumns = 48;

// Values of k in one step of a panel of T.
template <class T>
inline constexpr int kStepDepth = sizeof(T) == 2 ? 2 : 1;

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

// Both fill the panel of B [depth, columns], columns <= 48; Source and Panel are float or Bf16, rounded to
// nearest-even. B(k, n) = source[n * stride + k]: rows of W [N, K], keys. A transposition.
template <class Source, class Panel>
void PackPanelFromRows(int64_t depth, int columns, const Source* source, int64_t stride, Panel* panel);
// B(k, n) = source[k * stride + n]: values, x of a weight gradient.
template <class Source, class Panel>
void PackPanelFromColumns(int64_t depth, int columns, const Source* source, int64_t stride, Panel* panel);

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
