// SPDX-License-Identifier: Apache-2.0
// One row of the batch against the head, in pieces that the losses of the head share: a block of its tokens against a
// chunk of the vocabulary (logits, and from their gradients, which take the logits' place, those of x), and a panel of
// the vocabulary against all its tokens (the gradient of the head). All sums are chains: over the width for logits,
// over the vocabulary for dx, over the row's labelled tokens for dW, which is then rounded to integers and added.
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

struct HeadSizes {
  int64_t rows, tokens, hidden, vocabulary;  // of the batch; S (of one row), D, V
};

// Logits of one chunk, a token after the other.
struct LogitRows {
  explicit LogitRows(int64_t chunk, float* first = nullptr) : first(first), pitch(chunk + kLanes) {}
  float* operator[](int64_t i) const { return first + i * pitch; }
  LogitRows From(int64_t i) const {
    LogitRows rows = *this;
    rows.first += i * pitch;
    return rows;
  }

  float* first;
  int64_t pitch;  // not a power of two: a column's elements fall into different cache sets
};

// Where the gradients of logits stand: in their place, as operands, kStepDepth<T> * pitch from row to row.
template <class T>
Operand<T>* GradientsOf(float* logits) {
  return reinterpret_cast<Operand<T>*>(logits);
}

// Which tokens of a row have a label: only these are computed.
struct RowLabels {
  RowLabels(Carver& carver, int64_t tokens) : count(carver.Take<int32_t>(1)), token(carver.Take<int32_t>(tokens)) {}

  void Find(const int32_t* labels, const HeadSizes& sizes) const {
    *count = 0;
    for (int64_t s = 0; s < sizes.tokens; ++s) {
      CHECK_LT(labels[s], sizes.vocabulary);
      if (labels[s] >= 0) token[(*count)++] = static_cast<int32_t>(s);
    }
  }

  int32_t* count;
  int32_t* token;  // [count]: position in the row of the i-th token with a label
};

// Some tokens with a label, [first, last) of those of their row, which one thread computes.
struct TokenBlock {
  int64_t first, last;
  int64_t count() const { return last - first; }
};

// A block of tokens in the scratch of a thread.
template <class T>
class HeadBlock {
 public:
  HeadBlock(Carver& carver, const HeadSizes& sizes, int64_t tokens)
      : sizes_(sizes),
        steps_(PanelSteps<T>(sizes.hidden)),
        x_(carver.Take<Operand<T>>(tokens * steps_ * kStepDepth<T>)) {}

  // x: that of the row's first token.
  void Gather(const RowLabels& labels, const TokenBlock& block, const T* x, int64_t stride) {
    count_ = block.count();
    for (int64_t i = 0; i < count_; ++i) {
      PackRow<T>(x + labels.token[block.first + i] * stride, sizes_.hidden, x_ + i * steps_ * kStepDepth<T>);
    }
  }

  // Logits, divided by the temperature, of vocabulary entries [begin, begin + columns).
  void Logits(const PackedWeight& head, float temperature, int64_t begin, int64_t columns, LogitRows logits) const {
    constexpr int64_t kStep = kPanelColumns * kStepDepth<T>;
    const auto* panel = head.panels.As<Operand<T>>() + begin * steps_ * kStepDepth<T>;
    for (int64_t v = 0; v < columns; v += kPanelColumns) {
      const int here = static_cast<int>(std::min<int64_t>(kPanelColumns, columns - v));
      for (int64_t step = 0; step < steps_; step += kTileSteps) {
        const int64_t count = std::min(kTileSteps, steps_ - step);
        const Operand<T>* next = panel + count * kStep;
        Ahead ahead(next, count * kStep * static_cast<int64_t>(sizeof(*next)));
        GemmTile(count_, here, count, x_ + step * kStepDepth<T>, steps_, 1, panel, logits.first + v, logits.pitch,
                 step > 0, ahead);
        panel = next;
      }
      if (temperature != 1) Divide(temperature, logits.first + v, logits.pitch, here);
    }
  }

  // B(token, d) of these tokens, what the gradient of the head reads. Blocks begin at even tokens.
  void Pack(const TokenBlock& block, Operand<T>* x_panels) const {
    constexpr int64_t kDepth = kStepDepth<T>;
    PackPanelsFromColumns<Operand<T>>(count_, sizes_.hidden, x_, steps_ * kDepth,
                                      x_panels + block.first / kDepth * kDepth * kPanelColumns,
                                      PanelElements<T>(sizes_.tokens));
  }

  // dx (+)= d_logits W for a chunk: its rows are a, all of it is summed. dx [tokens][D] of the block.
  void InputGradient(const PackedWeight& head_backward, int64_t begin, int64_t columns, LogitRows logits,
                     float* dx) const {
    constexpr int64_t kStep = kPanelColumns * kStepDepth<T>;
    const int64_t steps = PanelSteps<T>(columns), panels = NumPanels(sizes_.hidden);
    const int64_t pitch = PanelElements<T>(sizes_.vocabulary);
    const auto* first = head_backward.panels.As<Operand<T>>() + begin * kPanelColumns;
    for (int64_t step = 0; step < steps; step += kTileSteps) {  // so many of the rows stay close for all panels
      const int64_t count = std::min(kTileSteps, steps - step);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const Operand<T>* b = first + panel * pitch + step * kStep;
        const Operand<T>* next = panel + 1 < panels ? b + pitch : first + (step + count) * kStep;
        Ahead ahead(next, count * kStep * static_cast<int64_t>(sizeof(*next)));
        GemmTile(count_, ColumnsOfPanel(sizes_.hidden, panel), count,
                 GradientsOf<T>(logits.first) + step * kStepDepth<T>, logits.pitch, 1, b, dx + panel * kPanelColumns,
                 sizes_.hidden, begin > 0 || step > 0, ahead);
      }
    }
  }

 private:
  // Logits of one panel, while they are in cache.
  void Divide(float temperature, float* first, int64_t pitch, int64_t columns) const {
    const F32x16 t = Set(temperature);
    for (int64_t i = 0; i < count_; ++i) {
      float* logits = first + i * pitch;
      ForEachVector(columns,
                    [&](int64_t v, auto lanes) { StoreLanes(logits + v, LoadLanes(logits + v, lanes) / t, lanes); });
    }
  }

  const HeadSizes& sizes_;
  const int64_t steps_;
  Operand<T>* const x_;  // [tokens][D], padded to whole steps
  int64_t count_ = 0;
};

// What a row needs for gradients.
template <class T>
struct HeadGradients {
  HeadGradients(Carver& carver, const HeadSizes& sizes, int64_t chunk)
      : logits(chunk, carver.Take<float>(sizes.tokens * LogitRows(chunk).pitch)),
        dx(carver.Take<float>(sizes.tokens * sizes.hidden)),
        x_panels(carver.Take<Operand<T>>(MatrixPanelElements<T>(sizes.hidden, sizes.tokens))) {}

  // Ends the gradients of a token's logits, of which `columns` are there, where a pair of operands may be half full.
  static void End(Operand<T>* gradients, int64_t columns) {
    std::fill(gradients + columns, gradients + PanelSteps<T>(columns) * kStepDepth<T>, Operand<T>{});
  }

  // Rounds dx of the block's tokens; those without a label before and, at the end of the row, behind them have none.
  // out: that of the row's first token.
  void StoreInputGradient(const HeadSizes& sizes, const RowLabels& labels, const TokenBlock& block, T* out,
                          int64_t stride) const {
    int64_t s = block.first == 0 ? 0 : labels.token[block.first - 1] + 1;
    for (int64_t i = block.first; i < block.last; ++i, ++s) {
      for (; s < labels.token[i]; ++s) std::fill_n(out + s * stride, sizes.hidden, T{});
      const float* sums = dx + i * sizes.hidden;
      ForEachVector(sizes.hidden, [&](int64_t d, auto lanes) {
        StoreLanes(out + s * stride + d, LoadLanes(sums + d, lanes), lanes);
      });
    }
    if (block.last < *labels.count) return;
    for (; s < sizes.tokens; ++s) std::fill_n(out + s * stride, sizes.hidden, T{});
  }

  // The gradient of the head's rows [begin + first, begin + last), columns [first, last) of the chunk that begins
  // there, against all of the row's tokens. d_logits: scratch for a panel of them.
  void AddWeightGradient(const HeadSizes& sizes, const RowLabels& labels, const GradientTarget& target, int64_t begin,
                         int64_t first, int64_t last, Operand<T>* d_logits) const {
    const int64_t tokens = *labels.count;
    if (tokens == 0) return;
    const int64_t pitch = logits.pitch * kStepDepth<T>;
    for (int64_t v = first; v < last; v += kPanelColumns) {
      const int rows = static_cast<int>(std::min<int64_t>(kPanelColumns, last - v));
      const Operand<T>* const columns = GradientsOf<T>(logits.first) + v;
      PackLeft<Operand<T>>(tokens, rows, columns, pitch, PanelSteps<T>(sizes.tokens), d_logits);
      DispatchSum(target.sum.dtype, [&](auto sum) {
        using Sum = decltype(sum);
        const int64_t stride = target.sum.stride(0);
        Sum* const to = target.sum.As<Sum>() + (begin + v) * stride;
        const int64_t row_bytes = sizes.hidden * int64_t{sizeof(Sum)}, stride_bytes = stride * int64_t{sizeof(Sum)};
        if (v == first) FetchRows(to, rows, row_bytes, stride_bytes);
        Ahead ahead;
        if (const int64_t next = std::min<int64_t>(kPanelColumns, last - v - rows); next > 0) {
          ahead.Add(columns + rows, next * int64_t{sizeof(Operand<T>)}, tokens, pitch * int64_t{sizeof(Operand<T>)});
          ahead.Add(to + rows * stride, row_bytes, next, stride_bytes);
        }
        for (int64_t panel = 0; panel < NumPanels(sizes.hidden); ++panel)
          AddTile<Sum>(sizes, tokens, target, rows, panel, d_logits, to, ahead);
      });
    }
  }

  LogitRows logits;      // by token with a label: [S] of one chunk; later their gradients
  float* dx;             // by token with a label: [S][D]
  Operand<T>* x_panels;  // B(token with a label, d)

 private:
  // 48 columns of `rows` rows of the head; to: the sums of these rows.
  template <class Sum>
  void AddTile(const HeadSizes& sizes, int64_t tokens, const GradientTarget& target, int rows, int64_t panel,
               const Operand<T>* d_logits, Sum* to, Ahead& ahead) const {
    constexpr int64_t kStep = kPanelColumns * kStepDepth<T>;
    alignas(64) float tile[kPanelColumns * kPanelColumns];
    const int columns = ColumnsOfPanel(sizes.hidden, panel);
    const int64_t steps = PanelSteps<T>(tokens), left_steps = PanelSteps<T>(sizes.tokens);
    const Operand<T>* b = x_panels + panel * PanelElements<T>(sizes.tokens);
    for (int64_t step = 0; step < steps; step += kTileSteps) {
      GemmTile(rows, columns, std::min(kTileSteps, steps - step), LeftAt<T>(d_logits, step),
               LeftRowStride<T>(left_steps), kLeftStepStride<T>, b + step * kStep, tile, kPanelColumns, step > 0,
               ahead);
    }
    if (AddTileToSum(rows, columns, tile, kPanelColumns, to + panel * kPanelColumns, target.sum.stride(0),
                     target.limit))
      SetFlag(target.flag.As<int32_t>());
  }
};

// x, dx [T, n] from one token on.
template <class T>
T* FromToken(const Tensor& x, int64_t token) {
  return x.As<T>() + token * x.stride(0);
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
