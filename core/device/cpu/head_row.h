// SPDX-License-Identifier: Apache-2.0
// One row of the batch against the head, which the losses of the head share: logits of a chunk of the vocabulary for
// the tokens that have a label, and from their gradients, in the logits' place, those of x and of the head. With
// several chunks a loss computes logits twice, with the same bits. All sums are chains: over the width for logits, over
// the vocabulary for dx, over the row's labelled tokens for dW, which is then rounded to integers and added.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/device/cpu/carver.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"
#include "core/device/cpu/log_sum_exp.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int64_t kTokenBlock = 64;  // tokens that pass over a panel while it is in cache

struct HeadSizes {
  int64_t tokens, hidden, vocabulary;  // S (of one row), D, V
};

// Columns of a chunk whose logits take about `bytes`: a multiple of the block in which the vocabulary is reduced.
inline int64_t ChunkColumns(const HeadSizes& sizes, int64_t bytes) {
  const int64_t fit = bytes / (std::max<int64_t>(sizes.tokens, 1) * static_cast<int64_t>(sizeof(float)));
  const int64_t whole = std::max<int64_t>(1, fit / kVocabularyBlock) * kVocabularyBlock;
  return std::min(whole, NumPanels(sizes.vocabulary) * kPanelColumns);
}

// body(begin, columns) for each chunk of the vocabulary.
template <class Body>
void ForEachChunk(int64_t vocabulary, int64_t chunk, const Body& body) {
  for (int64_t begin = 0; begin < vocabulary; begin += chunk) body(begin, std::min(chunk, vocabulary - begin));
}

// Which tokens of a row have a label: only these are computed.
struct RowLabels {
  RowLabels(Carver& carver, int64_t tokens) : token(carver.Take<int32_t>(tokens)), slot(carver.Take<int32_t>(tokens)) {}

  void Find(const int32_t* labels, int64_t tokens, int64_t vocabulary) {
    count = 0;
    for (int64_t s = 0; s < tokens; ++s) {
      CHECK_LT(labels[s], vocabulary);
      slot[s] = labels[s] < 0 ? -1 : static_cast<int32_t>(count);
      if (labels[s] >= 0) token[count++] = static_cast<int32_t>(s);
    }
  }

  int32_t* token;  // [count]: position in the row of the i-th token with a label
  int32_t* slot;   // [S]: which of them a token is, or -1
  int64_t count = 0;
};

template <class T>
struct HeadRowMemory {
  enum class Use { kLogits, kGradients };
  HeadRowMemory(Carver& carver, const HeadSizes& sizes, int64_t chunk, Use use)
      : pitch(chunk + kLanes),  // not a power of two: a column's elements fall into different cache sets
        depth(PanelSteps<T>(sizes.hidden) * kStepDepth<T>),
        x(carver.Take<Operand<T>>(sizes.tokens * depth)),
        logits(carver.Take<float>(sizes.tokens * pitch)) {
    if (use == Use::kLogits) return;
    x_panels = carver.Take<Operand<T>>(MatrixPanelElements<T>(sizes.hidden, sizes.tokens));
    dx = carver.Take<float>(sizes.tokens * sizes.hidden);
  }

  int64_t pitch, depth;
  // By token with a label:
  Operand<T>* x;                   // [S][depth], padded to whole steps
  float* logits;                   // [S][pitch] of one chunk; later their gradients
  float* dx = nullptr;             // [S][D]
  Operand<T>* x_panels = nullptr;  // B(token, d)
};

template <class T>
class HeadRow {
 public:
  HeadRow(const HeadSizes& sizes, const RowLabels& labels, const HeadRowMemory<T>& memory, ThreadPool& pool)
      : sizes_(sizes), labels_(labels), memory_(memory), pool_(pool) {}

  float* LogitsOf(int64_t i) const { return memory_.logits + i * memory_.pitch; }
  // Where the gradients of the logits stand: in their place, as operands, kStepDepth<T> * pitch from row to row.
  Operand<T>* GradientsOf(int64_t i) const { return reinterpret_cast<Operand<T>*>(LogitsOf(i)); }

  // x: that of the row's first token on.
  void GatherTokens(const T* x, int64_t stride) {
    pool_.ParallelFor(labels_.count, kTokenBlock, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        PackRow<T>(x + labels_.token[i] * stride, sizes_.hidden, memory_.x + i * memory_.depth);
      }
    });
  }

  // Logits, divided by the temperature, of vocabulary entries [begin, begin + columns). Blocks of tokens run fastest:
  // they share a panel.
  void Logits(const PackedWeight& head, float temperature, int64_t begin, int64_t columns) {
    constexpr int64_t kItemsPerThread = 8;
    const int64_t blocks = (labels_.count + kTokenBlock - 1) / kTokenBlock, items = NumPanels(columns) * blocks;
    const int64_t grain =
        std::clamp<int64_t>(items / (kItemsPerThread * pool_.size()), 1, std::max<int64_t>(blocks, 1));
    const auto* panels = head.panels.As<Operand<T>>();
    pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t panel = item / blocks, i = item % blocks * kTokenBlock;
        const int64_t rows = std::min(kTokenBlock, labels_.count - i);
        AddProduct({.rows = rows,
                    .columns = ColumnsOfPanel(columns, panel),
                    .steps = PanelSteps<T>(sizes_.hidden),
                    .a = memory_.x + i * memory_.depth,
                    .a_row_stride = PanelSteps<T>(sizes_.hidden),
                    .a_step_stride = 1,
                    .panel = panels + (begin / kPanelColumns + panel) * PanelElements<T>(sizes_.hidden)},
                   LogitsOf(i) + panel * kPanelColumns, memory_.pitch, false);
        if (temperature != 1) Divide(temperature, i, rows, panel * kPanelColumns, ColumnsOfPanel(columns, panel));
      }
    });
  }

  // What the gradient of the head reads.
  void PackTokens() {
    pool_.ParallelFor(NumPanels(sizes_.hidden), 1, [&](int64_t first, int64_t last, int) {
      for (int64_t panel = first; panel < last; ++panel) {
        PackPanelFromColumns<Operand<T>>(labels_.count, ColumnsOfPanel(sizes_.hidden, panel),
                                         memory_.x + panel * kPanelColumns, memory_.depth,
                                         memory_.x_panels + panel * PanelElements<T>(sizes_.tokens));
      }
    });
  }

  // Ends the gradients of a token's logits, of which `columns` are there, where a pair of operands may be half full.
  void EndGradients(int64_t i, int64_t columns) {
    Operand<T>* out = GradientsOf(i);
    std::fill(out + columns, out + PanelSteps<T>(columns) * kStepDepth<T>, Operand<T>{});
  }

  // dx += d_logits W for a chunk: its rows are a, all of it is summed.
  void InputGradient(const PackedWeight& head_backward, int64_t begin, int64_t columns) {
    int64_t block = 2 * kTokenBlock;
    while (block > 2 * kTileRows && labels_.count / block < 4 * pool_.size()) block /= 2;
    const int64_t steps = PanelSteps<T>(columns);
    const auto* panels = head_backward.panels.As<Operand<T>>() + begin * kPanelColumns;
    pool_.ParallelFor((labels_.count + block - 1) / block, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t i = item * block, count = std::min(block, labels_.count - i);
        for (int64_t step = 0; step < steps; step += kTileSteps) {  // so many of the rows stay close for all panels
          for (int64_t panel = 0; panel < NumPanels(sizes_.hidden); ++panel) {
            AddProduct(
                {.rows = count,
                 .columns = ColumnsOfPanel(sizes_.hidden, panel),
                 .steps = std::min(kTileSteps, steps - step),
                 .a = GradientsOf(i) + step * kStepDepth<T>,
                 .a_row_stride = memory_.pitch,
                 .a_step_stride = 1,
                 .panel = panels + panel * PanelElements<T>(sizes_.vocabulary) + step * kPanelColumns * kStepDepth<T>},
                memory_.dx + i * sizes_.hidden + panel * kPanelColumns, sizes_.hidden, begin > 0 || step > 0);
          }
        }
      }
    });
  }

  // The gradient of the head's rows of a chunk: 48 rows at a time, against all tokens.
  void WeightGradient(const GradientTarget& target, int64_t begin, int64_t columns) {
    const int64_t bytes = PanelElements<T>(labels_.count) * static_cast<int64_t>(sizeof(Operand<T>));
    pool_.ParallelFor(labels_.count > 0 ? NumPanels(columns) : 0, 1, [&](int64_t first, int64_t last, int thread) {
      auto* d_logits = static_cast<Operand<T>*>(pool_.Scratch(thread, bytes));
      for (int64_t item = first; item < last; ++item) {
        const int64_t v = item * kPanelColumns;
        const int rows = ColumnsOfPanel(columns, item);
        PackPanelFromColumns<Operand<T>>(labels_.count, rows, GradientsOf(0) + v, memory_.pitch * kStepDepth<T>,
                                         d_logits);
        DispatchSum(target.sum.dtype, [&](auto sum) {
          for (int64_t panel = 0; panel < NumPanels(sizes_.hidden); ++panel)
            AddToTarget<decltype(sum)>(target, begin + v, rows, panel, d_logits);
        });
      }
    });
  }

  // dx: that of the row's first token on; 0 where there is no label.
  void StoreInputGradient(T* dx, int64_t stride) {
    pool_.ParallelFor(sizes_.tokens, kTokenBlock, [&](int64_t first, int64_t last, int) {
      for (int64_t s = first; s < last; ++s) {
        T* out = dx + s * stride;
        const int32_t i = labels_.slot[s];
        if (i < 0) {
          std::fill(out, out + sizes_.hidden, T{});
          continue;
        }
        const float* sums = memory_.dx + i * sizes_.hidden;
        ForEachVector(sizes_.hidden,
                      [&](int64_t d, auto lanes) { StoreLanes(out + d, LoadLanes(sums + d, lanes), lanes); });
      }
    });
  }

 private:
  // The logits of some tokens in columns [column, column + columns) of a chunk, while they are in cache.
  void Divide(float temperature, int64_t i, int64_t rows, int64_t column, int64_t columns) {
    const F32x16 t = Set(temperature);
    for (int64_t end = i + rows; i < end; ++i) {
      float* logits = LogitsOf(i) + column;
      ForEachVector(columns,
                    [&](int64_t v, auto lanes) { StoreLanes(logits + v, LoadLanes(logits + v, lanes) / t, lanes); });
    }
  }

  // One panel's columns of c (+)= a b, in chunks of steps.
  struct Product {
    int64_t rows;
    int columns;
    int64_t steps;
    const Operand<T>* a;
    int64_t a_row_stride, a_step_stride;
    const Operand<T>* panel;
  };
  static void AddProduct(const Product& p, float* c, int64_t ldc, bool accumulate) {
    for (int64_t step = 0; step < p.steps; step += kTileSteps) {
      GemmTile(p.rows, p.columns, std::min(kTileSteps, p.steps - step), p.a + step * p.a_step_stride * kStepDepth<T>,
               p.a_row_stride, p.a_step_stride, p.panel + step * kPanelColumns * kStepDepth<T>, c, ldc,
               accumulate || step > 0);
    }
  }

  // 48 columns of `rows` rows of the head from `row` on.
  template <class Sum>
  void AddToTarget(const GradientTarget& target, int64_t row, int rows, int64_t panel, const Operand<T>* d_logits) {
    alignas(64) float tile[kPanelColumns * kPanelColumns];
    const int columns = ColumnsOfPanel(sizes_.hidden, panel);
    const int64_t stride = target.sum.stride(0), bytes = sizeof(Sum);
    Sum* sum = target.sum.As<Sum>() + row * stride + panel * kPanelColumns;
    FetchRows(sum, rows, columns * bytes, stride * bytes);
    AddProduct({.rows = rows,
                .columns = columns,
                .steps = PanelSteps<T>(labels_.count),
                .a = d_logits,
                .a_row_stride = 1,
                .a_step_stride = kPanelColumns,
                .panel = memory_.x_panels + panel * PanelElements<T>(sizes_.tokens)},
               tile, kPanelColumns, false);
    if (AddTileToSum(rows, columns, tile, kPanelColumns, sum, stride, target.limit)) SetFlag(target.flag.As<int32_t>());
  }

  const HeadSizes& sizes_;
  const RowLabels& labels_;
  const HeadRowMemory<T>& memory_;
  ThreadPool& pool_;
};

// What all losses of the head ask for.
inline void CheckCrossEntropy(const CrossEntropyArgs& args) {
  CHECK(args.x.rank == 2 && args.x.dtype == args.head.dtype && args.head.matrices == 1);
  CHECK_EQ(args.x.size(1), args.head.in);
  CHECK_EQ(args.labels.Elements(), args.x.size(0));
  CHECK_EQ(args.loss.Elements(), args.rows);
  CHECK(args.temperature > 0);
  CHECK_EQ(args.x.size(0) % std::max<int64_t>(args.rows, 1), 0);
  if (!args.dx) return;
  CHECK(args.dx.dtype == args.x.dtype && args.head_backward.dtype == args.x.dtype);
  CHECK_EQ(args.head_backward.out, args.head.in);
  CHECK_EQ(args.head_backward.in, args.head.out);
  CHECK_EQ(args.target.sum.Elements(), args.head.out * args.head.in);
  if (!args.token_weights) return;
  CHECK(args.token_weights.dtype == DType::kF32 && args.z_loss == 0);
  CHECK_EQ(args.token_weights.Elements(), args.labels.Elements());
}

// x, dx [T, n] from one token on.
template <class T>
T* FromToken(const Tensor& x, int64_t token) {
  return x.As<T>() + token * x.stride(0);
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
