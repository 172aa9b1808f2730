// SPDX-License-Identifier: Apache-2.0
// Cross entropy fused with the head. One row of the batch at a time, and of it only the tokens that have a label:
// logits, divided by the temperature, of a chunk of the vocabulary (all of it if they take at most 64 MiB), the
// log-sum-exp of each token, then in place d_logits = scale / temperature ((1 + 2 z lse) e^(logit - lse) - onehot),
// where tokens may bring scales of their own, dx = d_logits W, dW = d_logits^T x. With several chunks the logits are
// computed twice, with the same bits. All sums are chains: over the width for logits, over the vocabulary for dx, over
// the row's labelled tokens for dW, which is then rounded to integers and added.
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
constexpr int64_t kItemsPerThread = 8;                  // of the logits
constexpr int64_t kTokenBlock = 64;                     // tokens that pass over a panel while it is in cache

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
        x(carver.Take<Operand<T>>(sizes.tokens * depth)),
        sums(carver.Take<LogSumExp>(sizes.tokens)),
        lse(carver.Take<float>(sizes.tokens)),
        label_logit(carver.Take<float>(sizes.tokens)),
        logits(carver.Take<float>(sizes.tokens * pitch)) {
    if (purpose == Purpose::kForward) return;
    x_panels = carver.Take<Operand<T>>(MatrixPanelElements<T>(sizes.hidden, sizes.tokens));
    dx = carver.Take<float>(sizes.tokens * sizes.hidden);
  }

  Carver carver;
  int64_t chunk, pitch, depth;
  int32_t* token;  // [labels]: position in the row of the i-th token with a label
  int32_t* slot;   // [S]: which of them a token is, or -1
  // Below, entries [labels, ...]:
  Operand<T>* x;                   // [S][depth], padded to whole steps
  LogSumExp* sums;                 // [S]
  float* lse;                      // [S]
  float* label_logit;              // [S]
  float* logits;                   // [S][pitch] of one chunk; later d_logits
  float* dx = nullptr;             // [S][D]
  Operand<T>* x_panels = nullptr;  // B(token, d)
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
      if (!OneChunk()) {
        Logits(begin, columns);
        LogitGradients(begin, columns);
      }
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

  // Then the gradients of the logits are computed as soon as a token's log-sum-exp is known, while its logits are
  // close.
  bool OneChunk() const { return memory_.chunk >= sizes_.vocabulary; }

  int32_t Label(int64_t i) const { return args_.labels.As<int32_t>()[first_token_ + memory_.token[i]]; }
  float* LogitsOf(int64_t i) const { return memory_.logits + i * memory_.pitch; }
  // Where the gradients of the logits stand: in their place, as operands, kStepDepth<T> * pitch from row to row.
  Operand<T>* GradientsOf(int64_t i) const { return reinterpret_cast<Operand<T>*>(LogitsOf(i)); }

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
        PackRow<T>(x, sizes_.hidden, memory_.x + i * memory_.depth);
        memory_.sums[i] = LogSumExp{};
      }
    });
  }

  // Logits of vocabulary entries [begin, begin + columns). Blocks of tokens run fastest: they share a panel.
  void Logits(int64_t begin, int64_t columns) {
    const int64_t blocks = (labels_ + kTokenBlock - 1) / kTokenBlock, items = NumPanels(columns) * blocks;
    const int64_t grain =
        std::clamp<int64_t>(items / (kItemsPerThread * pool_.size()), 1, std::max<int64_t>(blocks, 1));
    const auto* head = args_.head.panels.As<Operand<T>>();
    pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t panel = item / blocks, i = item % blocks * kTokenBlock;
        const int64_t rows = std::min(kTokenBlock, labels_ - i);
        AddProduct({.rows = rows,
                    .columns = ColumnsOfPanel(columns, panel),
                    .steps = PanelSteps<T>(sizes_.hidden),
                    .a = memory_.x + i * memory_.depth,
                    .a_row_stride = PanelSteps<T>(sizes_.hidden),
                    .a_step_stride = 1,
                    .panel = head + (begin / kPanelColumns + panel) * PanelElements<T>(sizes_.hidden)},
                   LogitsOf(i) + panel * kPanelColumns, memory_.pitch, false);
        if (args_.temperature != 1) DivideByTemperature(i, rows, panel * kPanelColumns, ColumnsOfPanel(columns, panel));
      }
    });
  }

  // The logits of some tokens in columns [column, column + columns) of a chunk, while they are in cache.
  void DivideByTemperature(int64_t i, int64_t rows, int64_t column, int64_t columns) {
    const F32x16 t = Set(args_.temperature);
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

  void ReduceLogits(int64_t begin, int64_t columns) {
    pool_.ParallelFor(labels_, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
          memory_.sums[i].AddBlock(LogitsOf(i) + v, std::min(kVocabularyBlock, columns - v));
        }
        const int64_t label = Label(i) - begin;
        if (label >= 0 && label < columns) memory_.label_logit[i] = LogitsOf(i)[label];
        if (begin + columns < sizes_.vocabulary) continue;
        memory_.lse[i] = memory_.sums[i].Value();
        if (args_.dx && OneChunk()) LogitGradient(i, begin, columns);
      }
    });
  }

  void LogitGradients(int64_t begin, int64_t columns) {
    pool_.ParallelFor(labels_, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) LogitGradient(i, begin, columns);
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
        PackPanelFromColumns<Operand<T>>(labels_, ColumnsOfPanel(sizes_.hidden, panel),
                                         memory_.x + panel * kPanelColumns, memory_.depth,
                                         memory_.x_panels + panel * PanelElements<T>(sizes_.tokens));
      }
    });
  }

  // Turns a token's logits of entries [begin, begin + columns) into their gradients, rounded to T.
  void LogitGradient(int64_t i, int64_t begin, int64_t columns) {
    const float* logits = LogitsOf(i);
    Operand<T>* out = GradientsOf(i);  // never beyond what has been read
    const float weight =
        args_.token_weights ? args_.token_weights.As<float>()[first_token_ + memory_.token[i]] : args_.scale;
    const F32x16 lse = Set(memory_.lse[i]), scale = Set(weight / args_.temperature);
    const F32x16 factor = Set(1.0f + 2.0f * args_.z_loss * memory_.lse[i]);
    const int64_t label = Label(i) - begin;
    const float of_label = label >= 0 && label < columns ? logits[label] : 0;
    for (int64_t v = 0; v < columns; v += kLanes) {  // rows are padded
      StoreOperands<T>(out + v, Exp(Load(logits + v) - lse) * factor * scale);
    }
    if (label >= 0 && label < columns) {
      // (p f - 1) scale, where p f must not be rounded with the scale first.
      alignas(64) Operand<T> own[kLanes];
      StoreOperands<T>(own, (Exp(Set(of_label) - lse) * factor - Set(1.0f)) * scale);
      out[label] = own[0];
    }
    std::fill(out + columns, out + PanelSteps<T>(columns) * kStepDepth<T>, Operand<T>{});
  }

  // dx += d_logits W for a chunk: its rows are a, all of it is summed.
  void InputGradient(int64_t begin, int64_t columns) {
    int64_t block = 2 * kTokenBlock;
    while (block > 2 * kTileRows && labels_ / block < 4 * pool_.size()) block /= 2;
    const int64_t steps = PanelSteps<T>(columns);
    const auto* panels = args_.head_backward.panels.As<Operand<T>>() + begin * kPanelColumns;
    pool_.ParallelFor((labels_ + block - 1) / block, 1, [&](int64_t first, int64_t last, int) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t i = item * block, count = std::min(block, labels_ - i);
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
  void WeightGradient(int64_t begin, int64_t columns) {
    const int64_t bytes = PanelElements<T>(labels_) * static_cast<int64_t>(sizeof(Operand<T>));
    pool_.ParallelFor(labels_ > 0 ? NumPanels(columns) : 0, 1, [&](int64_t first, int64_t last, int thread) {
      auto* d_logits = static_cast<Operand<T>*>(pool_.Scratch(thread, bytes));
      for (int64_t item = first; item < last; ++item) {
        const int64_t v = item * kPanelColumns;
        const int rows = ColumnsOfPanel(columns, item);
        PackPanelFromColumns<Operand<T>>(labels_, rows, GradientsOf(0) + v, memory_.pitch * kStepDepth<T>, d_logits);
        DispatchSum(args_.target.sum.dtype, [&](auto sum) {
          for (int64_t panel = 0; panel < NumPanels(sizes_.hidden); ++panel)
            AddToTarget<decltype(sum)>(begin + v, rows, panel, d_logits);
        });
      }
    });
  }

  // 48 columns of `rows` rows of the head from `row` on.
  template <class Sum>
  void AddToTarget(int64_t row, int rows, int64_t panel, const Operand<T>* d_logits) {
    alignas(64) float tile[kPanelColumns * kPanelColumns];
    const int columns = ColumnsOfPanel(sizes_.hidden, panel);
    const int64_t stride = args_.target.sum.stride(0), bytes = sizeof(Sum);
    Sum* sum = args_.target.sum.As<Sum>() + row * stride + panel * kPanelColumns;
    FetchRows(sum, rows, columns * bytes, stride * bytes);
    AddProduct({.rows = rows,
                .columns = columns,
                .steps = PanelSteps<T>(labels_),
                .a = d_logits,
                .a_row_stride = 1,
                .a_step_stride = kPanelColumns,
                .panel = memory_.x_panels + panel * PanelElements<T>(sizes_.tokens)},
               tile, kPanelColumns, false);
    if (AddTileToSum(rows, columns, tile, kPanelColumns, sum, stride, args_.target.limit)) {
      SetFlag(args_.target.flag.As<int32_t>());
    }
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
