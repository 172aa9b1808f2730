// SPDX-License-Identifier: Apache-2.0
// What the forward and the backward pass of attention share: runs of queries, blocks of keys, and the weights of one
// query. Keys are walked in blocks of 96 counted from the document's first token. Inside a block a query's last keys
// may be masked; they get weight 0 and add exact zeros at the end of each chain, so that the bits of a query depend on
// nothing but its own document: not on the row it was packed in, on the other queries of a tile or on whether they are
// there at all.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/device/cpu/carver.h"
#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/lanes.h"
#include "core/device/cpu/log_sum_exp.h"
#include "core/device/cpu/pack.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int64_t kKeyBlock = 2 * kPanelColumns;

// Shapes and dtypes that belong together.
inline void CheckAttention(const AttentionArgs& args) {
  const int64_t shared = args.k_shared ? args.k_shared.size(2) : 0;
  for (const Tensor& x : {args.k, args.v, args.out}) CHECK(x.dtype == args.q.dtype && x.rank == 4);
  CHECK(args.q.rank == 4 && args.lse.dtype == DType::kF32 && args.positions.dtype == DType::kI32);
  CHECK(!args.k_shared || (args.k_shared.dtype == args.q.dtype && args.k_shared.size(1) == args.k.size(1)));
  CHECK_EQ(args.q.size(3), args.k.size(3) + shared);
  CHECK_EQ(args.q.size(2) % args.k.size(2), 0);
  CHECK_EQ(args.k.size(2), args.v.size(2));
  CHECK_EQ(args.k.size(1), args.v.size(1));
  CHECK_EQ(args.out.size(3), args.v.size(3));
  CHECK(args.scale > 0);  // so that the largest q k has the largest weight
}

struct AttentionSizes {
  int64_t batch, queries, heads, key_heads;
  int64_t own_depth, shared_depth, depth, width;  // n, r, n + r, dv

  explicit AttentionSizes(const AttentionArgs& args)
      : batch(args.q.size(0)),
        queries(args.q.size(1)),
        heads(args.q.size(2)),
        key_heads(args.k.size(2)),
        own_depth(args.k.size(3)),
        shared_depth(args.k_shared ? args.k_shared.size(2) : 0),
        depth(own_depth + shared_depth),
        width(args.v.size(3)) {}
  int64_t Group() const { return heads / key_heads; }
};

// Consecutive tokens of one row and document. Token i has position + i and reads keys
// [first_key, first_key + position + i].
struct QueryRun {
  int64_t begin, count;
  int64_t position;  // -1: the tokens are padding
  int64_t first_key;
};

// body(run) for the runs that make up tokens [begin, end) of row b.
template <class Body>
void ForEachRun(const AttentionArgs& args, int64_t b, int64_t begin, int64_t end, const Body& body) {
  const int32_t* positions = args.positions.As<int32_t>() + b * args.positions.stride(0);
  const int32_t* key_index = args.key_index ? args.key_index.As<int32_t>() + b * args.key_index.stride(0) : nullptr;
  const auto own_key = [&](int64_t s) { return key_index ? key_index[s] : s; };
  for (int64_t s = begin; s < end;) {
    QueryRun run{.begin = s, .count = 1, .position = positions[s], .first_key = 0};
    if (run.position < 0) {
      run.position = -1;
      while (s + run.count < end && positions[s + run.count] < 0) ++run.count;
    } else {
      run.first_key = own_key(s) - run.position;
      while (s + run.count < end && positions[s + run.count] == run.position + run.count &&
             own_key(s + run.count) == own_key(s) + run.count) {
        ++run.count;
      }
      CHECK_GE(run.first_key, 0);
      CHECK_LE(own_key(s) + run.count, args.k.size(1));
    }
    body(run);
    s += run.count;
  }
}

// Rows of a matrix in memory.
template <class T>
struct RowsView {
  const T* data;
  int64_t stride;  // elements
};

// Keys of a head in their two parts; what comes first in q comes first here.
template <class T>
struct KeyParts {
  RowsView<T> own, shared;
  int64_t own_depth, shared_depth;  // the latter may be 0
};

// Keys of key head g from `first` on.
template <class T>
KeyParts<T> KeysFrom(const AttentionArgs& args, int64_t b, int64_t g, int64_t first) {
  const Tensor &k = args.k, &shared = args.k_shared;
  KeyParts<T> keys = {.own = {k.As<T>() + b * k.stride(0) + first * k.stride(1) + g * k.stride(2), k.stride(1)},
                      .shared = {},
                      .own_depth = k.size(3),
                      .shared_depth = 0};
  if (shared) {
    keys.shared = {shared.As<T>() + b * shared.stride(0) + first * shared.stride(1), shared.stride(1)};
    keys.shared_depth = shared.size(2);
  }
  return keys;
}

// Their first `count` rows [count, n + r]; gathered to `buffer` if the shared part stands elsewhere.
template <class T>
RowsView<T> Gather(const KeyParts<T>& keys, int64_t count, T* buffer) {
  if (keys.shared_depth == 0) return keys.own;
  const int64_t depth = keys.own_depth + keys.shared_depth;
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(buffer + i * depth, keys.own.data + i * keys.own.stride, keys.own_depth * sizeof(T));
    std::memcpy(buffer + i * depth + keys.own_depth, keys.shared.data + i * keys.shared.stride,
                keys.shared_depth * sizeof(T));
  }
  return {buffer, depth};
}

template <class T>
RowsView<T> ValueRows(const AttentionArgs& args, int64_t b, int64_t g, int64_t first) {
  return {args.v.As<T>() + b * args.v.stride(0) + first * args.v.stride(1) + g * args.v.stride(2), args.v.stride(1)};
}

// Panels over the rows of a block: B(k, n) = rows[n][k], n < count. For products that sum over the width of a head.
template <class T, class Source>
void PackRowPanels(int64_t depth, int64_t count, RowsView<Source> rows, Operand<T>* panels) {
  for (int64_t panel = 0; panel < NumPanels(count); ++panel) {
    PackPanelFromRows<T>(depth, ColumnsOfPanel(count, panel), rows.data + panel * kPanelColumns * rows.stride,
                         rows.stride, panels + panel * PanelElements<T>(depth));
  }
}

// Panels over the columns: B(k, n) = rows[k][n], k < count. For products that sum over the tokens of a block. Panels
// stand `pitch` elements apart.
template <class T, class Source>
void PackColumnPanels(int64_t count, int64_t width, RowsView<Source> rows, Operand<T>* panels, int64_t pitch) {
  PackPanelsFromColumns<T>(count, width, rows.data, rows.stride, panels, pitch);
}

// c [rows][columns] (+)= a B for a row of panels that stand `pitch` elements apart; strides of a in steps.
template <class T>
struct BlockProduct {
  int64_t rows, columns, steps;
  const Operand<T>* a;
  int64_t a_row_stride, a_step_stride;
  const Operand<T>* panels;
  int64_t pitch;
};
template <class T>
void Multiply(const BlockProduct<T>& product, float* c, int64_t ldc, bool accumulate) {
  for (int64_t panel = 0; panel < NumPanels(product.columns); ++panel) {
    GemmTile(product.rows, ColumnsOfPanel(product.columns, panel), product.steps, product.a, product.a_row_stride,
             product.a_step_stride, product.panels + panel * product.pitch, c + panel * kPanelColumns, ldc, accumulate);
  }
}

// Stores n sums times `factor`, rounded to T.
template <class T>
void StoreScaled(const float* sums, int64_t n, float factor, T* out) {
  ForEachVector(n,
                [&](int64_t i, auto lanes) { StoreLanes(out + i, LoadLanes(sums + i, lanes) * Set(factor), lanes); });
}

// Operands that replace the floats they are computed from, where both have the same type; else their own memory.
template <class T>
Operand<T>* InPlaceOr([[maybe_unused]] float* floats, int64_t elements, Carver& carver) {
  if constexpr (std::is_same_v<Operand<T>, float>) {
    return floats;
  } else {
    return carver.Take<Operand<T>>(elements);
  }
}

// 2^x for x <= 2: relative error below 1e-7; 0 below -126; NaN stays. Weights are powers of 2, because their exponent
// then needs no second reduction, and log2(e) costs nothing: it is part of the scale.
inline F32x16 Exp2(F32x16 x) {
  const F32x16 shift = Set(0x1.8p23f), t = x + shift, f = x - (t - shift);  // t: x as the nearest integer
  F32x16 p = Set(1.55946778e-4f);
  p = Fma(p, f, Set(1.34066434e-3f));
  p = Fma(p, f, Set(9.61769279e-3f));
  p = Fma(p, f, Set(5.55031039e-2f));
  p = Fma(p, f, Set(2.40226522e-1f));
  p = Fma(p, f, Set(6.93147242e-1f));
  p = Fma(p, f, Set(1.0f));
  return SelectLess(x, Set(-126.0f), Set(0.0f), p * ScaleByPowerOfTwo(Set(1.0f), t));
}
inline constexpr float kLog2E = 1.44269504f;

// How many of the 16 lanes from `begin` stand before `end`.
inline int LanesBefore(int64_t begin, int64_t end) {
  return static_cast<int>(std::clamp<int64_t>(end - begin, 0, kLanes));
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
