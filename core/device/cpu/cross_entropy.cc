// SPDX-License-Identifier: Apache-2.0
// Cross entropy fused with the head. One row of the batch at a time, and of it only the tokens that have a label:
// logits of a chunk of the vocabulary (all of it if they take at most 64 MiB), the log-sum-exp of each token, then in
// place d_logits = scale ((1 + 2 z lse) e^(logit - lse) - onehot), dx = d_logits W, dW = d_logits^T x. With several
// chunks the logits are computed twice, with the same bits. All sums are chains: over the width for logits, over the
// vocabulary for dx, over the row's labelled tokens for dW, which is then rounded to integers and added.
#include <algorithm>
#include <cstring>

#include "core/device/cpu/carver.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"
#include "core/device/cpu/log_sum_exp.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kTrainingLogits = int64_t{64} << 20;  // bytes of logits held at once
constexpr int64_t kForwardLogits = int64_t{4} << 20;    // the same where nothing reads them a second time
constexpr int64_t kTokenBlock = 64;                     // tokens that pass over a panel while it is in cache
constexpr int64_t kStepChunk = 1024;                    // steps of a panel that fit there with the tokens

enum class Purpose { kForward, kTraining };

struct Sizes {
  int64_t tokens, hidden, vocabulary;  // S (of one row), D, V
};

// Columns of a chunk: a multiple of the block in which the vocabulary is reduced.
int64_t ChunkColumns(const Sizes& sizes, Purpose purpose) {
  const int64_t bytes = purpose == Purpose::kTraining ? kTrainingLogits : kForwardLogits;
  const int64_t fit = bytes / (std::max<int64_t>(sizes.tokens, 1) * static_cast<int64_t>(sizeof(float)));
  const int64_t whole = std::max<int64_t>(1, fit / kVocabularyBlock) * kVocabularyBlock;
  return std::min(whole, NumPanels(sizes.vocabulary) * kPanelColumns);
}

template <class T>
struct RowMemory {
  RowMemory(const Sizes& sizes, Purpose purpose, void* memory)
      : carver(memory),
        chunk(ChunkColumns(sizes, purpose)),
        pitch(chunk + kLanes),  // not a power of two: a column's elements fall into different cache sets
        depth(PanelSteps<T>(sizes.hidden) * kStepDepth<T>),
        token(carver.Take<int32_t>(sizes.tokens)),
        slot(carver.Take<int32_t>(sizes.tokens)),
        x(carver.Take<T>(sizes.tokens * depth)),
        sums(carver.Take<LogSumExp>(sizes.tokens)),
        lse(carver.Take<float>(sizes.tokens)),
        label_logit(carver.Take<float>(sizes.tokens)),
        logits(carver.Take<float>(sizes.tokens * pitch)) {
    if (purpose == Purpose::kForward) return;
    x_panels = carver.Take<T>(MatrixPanelElements<T>(sizes.hidden, sizes.tokens));
    dx = carver.Take<float>(sizes.tokens * sizes.hidden);
  }

  Carver carver;
  int64_t chunk, pitch, depth;
  int32_t* token;  // [labels]: position in the row of the i-th token with a label
  int32_t* slot;   // [S]: which of them a token is, or -1
  // Below, entries [labels, ...]:
  T* x;                   // [S][depth], padded to whole steps
  LogSumExp* sums;        // [S]
  float* lse;             // [S]
  float* label_logit;     // [S]
  float* logits;          // [S][pitch] of one chunk; later d_logits
  T* x_panels = nullptr;  // B(token, d)
  float* dx = nullptr;    // [S][D]
};

// One row of the batch.
template <class T>
class RowLoss {
 public:
  RowLoss(const CrossEntropyArgs& args, int64_t row, const Sizes& sizes, const RowMemory<T>& memory, ThreadPool& pool)
      : args_(args), row_(row), first_token_(row * sizes.tokens), sizes_(sizes), memory_(memory), pool_(pool) {}

  void Run() {
    FindLabels();
    GatherTokens();
    ForEachChunk([&](int64_t begin, int64_t columns) {
      Logits(begin, columns);
      ReduceLogits(begin, columns);
    });
    StoreLoss();
    if (!args_.dx) return;
    PackTokens();
    ForEachChunk([&](int64_t begin, int64_t columns) {
      if (memory_.chunk < sizes_.vocabulary) Logits(begin, columns);  // else they are still there
      InputGradient(begin, columns);
      WeightGradient(begin, columns);
    });
    StoreInputGradient();
  }

 private:
  template <class Body>
  void ForEachChunk(const Body& body) {
    for (int64_t begin = 0; begin < sizes_.vocabulary; begin += memory_.chunk) {
      body(begin, std::min(memory_.chunk, sizes_.vocabulary - begin));
    }
  }

  int32_t Label(int64_t i) const { return args_.labels.As<int32_t>()[first_token_ + memory_.token[i]]; }
  float* LogitsOf(int64_t i) const { return memory_.logits + i * memory_.pitch; }

  void FindLabels() {
    for (int64_t s = 0; s < sizes_.tokens; ++s) {
      const int32_t label = args_.labels.As<int32_t>()[first_token_ + s];
      CHECK_LT(label, sizes_.vocabulary);
      memory_.slot[s] = label < 0 ? -1 : static_cast<int32_t>(labels_);
      if (label >= 0) memory_.token[labels_++] = static_cast<int32_t>(s);
    }
  }

  void GatherTokens() {
    pool_.ParallelFor(labels_, kTokenBlock, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const T* x = args_.x.As<T>() + (first_token_ + memory_.token[i]) * args_.x.stride(0);
        std::memcpy(memory_.x + i * memory_.depth, x, sizes_.hidden * sizeof(T));
        std::fill(memory_.x + i * memory_.depth + sizes_.hidden, memory_.x + (i + 1) * memory_.depth, T{});
        memory_.sums[i] = LogSumExp{};
      }
    });
  }

  // Logits of vocabulary entries [begin, begin + columns). Blocks of tokens run fastest: they share a panel.
  void Logits(int64_t begin, int64_t columns) {
    const int64_t blocks = (labels_ + kTokenBlock - 1) / kTokenBlock, steps = PanelSteps<T>(sizes_.hidden);
    pool_.ParallelFor(NumPanels(columns) * blocks, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t panel = item / blocks, i = item % blocks * kTokenBlock;
        const T* w = args_.head.panels.As<T>() + (begin / kPanelColumns + panel) * PanelElements<T>(sizes_.hidden);
        for (int64_t step = 0; step < steps; step += kStepChunk) {
          const int64_t element = step * kStepDepth<T>;
          GemmTile(std::min(kTokenBlock, labels_ - i), ColumnsOfPanel(columns, panel),
                   std::min(kStepChunk, steps - step), memory_.x + i * memory_.depth + element, steps, 1,
                   w + element * kPanelColumns, LogitsOf(i) + panel * kPanelColumns, memory_.pitch, step > 0);
        }
      }
    });
  }

  void ReduceLogits(int64_t begin, int64_t columns) {
    pool_.ParallelFor(labels_, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
          memory_.sums[i].AddBlock(LogitsOf(i) + v, std::min(kVocabularyBlock, columns - v));
        }
        const int64_t label = Label(i) - begin;
        if (label >= 0 && label < columns) memory_.label_logit[i] = LogitsOf(i)[label];
        if (begin + columns == sizes_.vocabulary) memory_.lse[i] = memory_.sums[i].Value();
      }
    });
  }

  void StoreLoss() {
    double loss = 0, squares = 0;
    for (int64_t i = 0; i < labels_; ++i) {
      const double lse = memory_.lse[i];
      loss += lse - static_cast<double>(memory_.label_logit[i]);
      squares += lse * lse;
    }
    args_.loss.As<double>()[row_] = loss;
    if (args_.z_sum) args_.z_sum.As<double>()[row_] = squares;
    for (int64_t s = 0; args_.log_probs && s < sizes_.tokens; ++s) {
      const int32_t i = memory_.slot[s];
      args_.log_probs.As<float>()[first_token_ + s] = i < 0 ? 0.0f : memory_.label_logit[i] - memory_.lse[i];
    }
  }

  void PackTokens() {
    pool_.ParallelFor(NumPanels(sizes_.hidden), 1, [&](int64_t first, int64_t last, int) {
      for (int64_t panel = first; panel < last; ++panel) {
        PackPanelFromColumns(labels_, ColumnsOfPanel(sizes_.hidden, panel), memory_.x + panel * kPanelColumns,
                             memory_.depth, memory_.x_panels + panel * PanelElements<T>(sizes_.tokens));
      }
    });
  }

  // Turns a token's logits of entries [begin, begin + columns), which stand from `offset` on, into their gradients.
  void LogitGradient(int64_t i, int64_t begin, int64_t offset, int64_t columns) {
    float* logits = LogitsOf(i) + offset;
    const F32x16 lse = Set(memory_.lse[i]), scale = Set(args_.scale);
    const F32x16 factor = Set(1.0f + 2.0f * args_.z_loss * memory_.lse[i]);
    const int64_t label = Label(i) - begin;
    if (label >= 0 && label < columns) {
      // The label's own entry comes last: (p f - 1) scale, where p f must not be rounded with the scale first.
      const F32x16 own = (Exp(Set(logits[label]) - lse) * factor - Set(1.0f)) * scale;
      Scale(logits, columns, lse, factor, scale);
      StorePart(logits + label, own, 1);
    } else {
      Scale(logits, columns, lse, factor, scale);
    }
  }
  static void Scale(float* logits, int64_t columns, F32x16 lse, F32x16 factor, F32x16 scale) {
    ForEachVector(columns, [&](int64_t v, auto lanes) {
      StoreLanes(logits + v, Exp(LoadLanes(logits + v, lanes) - lse) * factor * scale, lanes);
    });
  }

  // dx += d_logits W for a chunk, block by block of the vocabulary.
  void InputGradient(int64_t begin, int64_t columns) {
    int64_t block = 2 * kTokenBlock;
    while (block > 2 * kTileRows && labels_ / block < 4 * pool_.size()) block /= 2;
    const int64_t bytes = block * kVocabularyBlock * static_cast<int64_t>(sizeof(T));
    pool_.ParallelFor((labels_ + block - 1) / block, 1, [&](int64_t first, int64_t last, int thread) {
      T* rounded = sizeof(T) == 2 ? static_cast<T*>(pool_.Scratch(thread, bytes)) : nullptr;
      for (int64_t item = first; item < last; ++item) {
        const int64_t i = item * block, count = std::min(block, labels_ - i);
        for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
          AddInputGradient(i, count, begin + v, v, std::min(kVocabularyBlock, columns - v), rounded);
        }
      }
    });
  }

  void AddInputGradient(int64_t i, int64_t count, int64_t begin, int64_t offset, int64_t columns, T* rounded) {
    for (int64_t m = 0; m < count; ++m) LogitGradient(i + m, begin, offset, columns);
    const T* a;
    int64_t a_row_stride;
    if constexpr (sizeof(T) == 2) {
      for (int64_t m = 0; m < count; ++m) RoundRow(LogitsOf(i + m) + offset, columns, rounded + m * kVocabularyBlock);
      a = rounded;
      a_row_stride = PanelSteps<T>(kVocabularyBlock);
    } else {
      a = LogitsOf(i) + offset;
      a_row_stride = memory_.pitch;
    }
    for (int64_t panel = 0; panel < NumPanels(sizes_.hidden); ++panel) {
      GemmTile(count, ColumnsOfPanel(sizes_.hidden, panel), PanelSteps<T>(columns), a, a_row_stride, 1,
               args_.head_backward.panels.As<T>() + panel * PanelElements<T>(sizes_.vocabulary) + begin * kPanelColumns,
               memory_.dx + i * sizes_.hidden + panel * kPanelColumns, sizes_.hidden, begin > 0);
    }
  }

  // Zeros fill the last vector: an odd vocabulary ends with half a pair.
  static void RoundRow(const float* row, int64_t n, T* out) {
    for (int64_t i = 0; i < n; i += kLanes) {
      Store(out + i, LoadPart(row + i, static_cast<int>(std::min<int64_t>(n - i, kLanes))));
    }
  }

  // The gradient of the head's rows of a chunk: 48 rows at a time, against all tokens.
  void WeightGradient(int64_t begin, int64_t columns) {
    const int64_t bytes = PanelElements<T>(labels_) * static_cast<int64_t>(sizeof(T));
    pool_.ParallelFor(labels_ > 0 ? NumPanels(columns) : 0, 1, [&](int64_t first, int64_t last, int thread) {
      T* d_logits = static_cast<T*>(pool_.Scratch(thread, bytes));
      alignas(64) float tile[kPanelColumns * kPanelColumns];
      for (int64_t item = first; item < last; ++item) {
        const int64_t v = item * kPanelColumns, rows = ColumnsOfPanel(columns, item);
        PackPanelFromColumns(labels_, static_cast<int>(rows), memory_.logits + v, memory_.pitch, d_logits);
        for (int64_t panel = 0; panel < NumPanels(sizes_.hidden); ++panel) {
          const int width = ColumnsOfPanel(sizes_.hidden, panel);
          GemmTile(rows, width, PanelSteps<T>(labels_), d_logits, 1, kPanelColumns,
                   memory_.x_panels + panel * PanelElements<T>(sizes_.tokens), tile, kPanelColumns, false);
          AddToTarget(begin + v, rows, panel * kPanelColumns, width, tile);
        }
      }
    });
  }

  void AddToTarget(int64_t row, int64_t rows, int64_t column, int width, const float* tile) {
    bool beyond = false;
    for (int64_t m = 0; m < rows; ++m) {
      int64_t* sum = args_.target.sum.As<int64_t>() + (row + m) * args_.target.sum.stride(0) + column;
      for (int d = 0; d < width; d += kLanes) {
        const int lanes = std::min(width - d, kLanes);
        const F32x16 x = LoadPart(tile + m * kPanelColumns + d, lanes);
        beyond |= AnyBeyond(x, args_.target.limit);
        if (lanes == kLanes) {
          AddFixed(sum + d, x);
        } else {
          AddFixedPart(sum + d, x, lanes);
        }
      }
    }
    if (beyond) SetFlag(args_.target.flag.As<int32_t>());
  }

  void StoreInputGradient() {
    pool_.ParallelFor(sizes_.tokens, kTokenBlock, [&](int64_t first, int64_t last, int) {
      for (int64_t s = first; s < last; ++s) {
        T* dx = args_.dx.As<T>() + (first_token_ + s) * args_.dx.stride(0);
        const int32_t i = memory_.slot[s];
        if (i < 0) {
          std::fill(dx, dx + sizes_.hidden, T{});
          continue;
        }
        const float* sums = memory_.dx + i * sizes_.hidden;
        ForEachVector(sizes_.hidden,
                      [&](int64_t d, auto lanes) { StoreLanes(dx + d, LoadLanes(sums + d, lanes), lanes); });
      }
    });
  }

  const CrossEntropyArgs& args_;
  const int64_t row_, first_token_;
  const Sizes& sizes_;
  const RowMemory<T>& memory_;
  ThreadPool& pool_;
  int64_t labels_ = 0;
};

void CheckCrossEntropy(const CrossEntropyArgs& args) {
  CHECK(args.x.rank == 2 && args.x.dtype == args.head.dtype && args.head.matrices == 1);
  CHECK_EQ(args.x.size(1), args.head.in);
  CHECK_EQ(args.labels.Elements(), args.x.size(0));
  CHECK_EQ(args.loss.Elements(), args.rows);
  CHECK_EQ(args.x.size(0) % std::max<int64_t>(args.rows, 1), 0);
  if (!args.dx) return;
  CHECK(args.dx.dtype == args.x.dtype && args.head_backward.dtype == args.x.dtype);
  CHECK_EQ(args.head_backward.out, args.head.in);
  CHECK_EQ(args.head_backward.in, args.head.out);
  CHECK_EQ(args.target.sum.Elements(), args.head.out * args.head.in);
}

}  // namespace

void CpuKernels::LinearCrossEntropy(const CrossEntropyArgs& args) {
  CheckCrossEntropy(args);
  if (args.rows == 0) return;
  const Sizes sizes = {args.x.size(0) / args.rows, args.head.in, args.head.out};
  DispatchFloat(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Purpose purpose = args.dx ? Purpose::kTraining : Purpose::kForward;
    const int64_t bytes = RowMemory<T>(sizes, purpose, nullptr).carver.used();
    // The forward pass alone takes no scratch of threads, so that of the caller can hold the row.
    if (args.dx) CHECK_LE(bytes, args.workspace.Bytes());
    const RowMemory<T> memory(sizes, purpose, args.dx ? args.workspace.data : pool_.Scratch(0, bytes));
    for (int64_t row = 0; row < args.rows; ++row) RowLoss<T>(args, row, sizes, memory, pool_).Run();
  });
}

int64_t CpuKernels::CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                          DType dtype) const {
  const Sizes sizes = {tokens / std::max<int64_t>(rows, 1), hidden, vocabulary};
  int64_t bytes = 0;
  DispatchFloat(
      dtype, [&](auto zero) { bytes = RowMemory<decltype(zero)>(sizes, Purpose::kTraining, nullptr).carver.used(); });
  return bytes;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
