// SPDX-License-Identifier: Apache-2.0
// Cross entropy fused with the head (head_row.h). Logits of a chunk of the vocabulary (all of it if they take at most
// 64 MiB), the log-sum-exp of each token, then in place d_logits = scale / temperature ((1 + 2 z lse) e^(logit - lse) -
// onehot), where tokens may bring scales of their own.
#include <algorithm>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/head_row.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kTrainingLogits = int64_t{64} << 20;  // bytes of logits held at once
constexpr int64_t kForwardLogits = int64_t{4} << 20;    // the same where nothing reads them a second time

enum class Purpose { kForward, kTraining };

template <class T>
struct RowMemory {
  using Use = typename HeadRowMemory<T>::Use;
  RowMemory(const HeadSizes& sizes, Purpose purpose, void* memory)
      : carver(memory),
        chunk(ChunkColumns(sizes, purpose == Purpose::kTraining ? kTrainingLogits : kForwardLogits)),
        labels(carver, sizes.tokens),
        sums(carver.Take<LogSumExp>(sizes.tokens)),
        lse(carver.Take<float>(sizes.tokens)),
        label_logit(carver.Take<float>(sizes.tokens)),
        head(carver, sizes, chunk, purpose == Purpose::kTraining ? Use::kGradients : Use::kLogits) {}

  Carver carver;
  int64_t chunk;
  RowLabels labels;
  // By token with a label:
  LogSumExp* sums;     // [S]
  float* lse;          // [S]
  float* label_logit;  // [S]
  HeadRowMemory<T> head;
};

// One row of the batch.
template <class T>
class RowLoss {
 public:
  RowLoss(const CrossEntropyArgs& args, int64_t row, const HeadSizes& sizes, RowMemory<T>& memory, ThreadPool& pool)
      : args_(args),
        row_(row),
        first_token_(row * sizes.tokens),
        sizes_(sizes),
        memory_(memory),
        labels_(memory.labels),
        head_(sizes, memory.labels, memory.head, pool),
        pool_(pool) {}

  void Run() {
    memory_.labels.Find(args_.labels.As<int32_t>() + first_token_, sizes_.tokens, sizes_.vocabulary);
    head_.GatherTokens(FromToken<T>(args_.x, first_token_), args_.x.stride(0));
    std::fill_n(memory_.sums, labels_.count, LogSumExp{});
    ForEachChunk(sizes_.vocabulary, memory_.chunk, [&](int64_t begin, int64_t columns) {
      head_.Logits(args_.head, args_.temperature, begin, columns);
      ReduceLogits(begin, columns);
    });
    StoreLoss();
    if (!args_.dx) return;
    head_.PackTokens();
    ForEachChunk(sizes_.vocabulary, memory_.chunk, [&](int64_t begin, int64_t columns) {
      if (!OneChunk()) {
        head_.Logits(args_.head, args_.temperature, begin, columns);
        LogitGradients(begin, columns);
      }
      head_.InputGradient(args_.head_backward, begin, columns);
      head_.WeightGradient(args_.target, begin, columns);
    });
    head_.StoreInputGradient(FromToken<T>(args_.dx, first_token_), args_.dx.stride(0));
  }

 private:
  // Then the gradients of the logits are computed as soon as a token's log-sum-exp is known, while its logits are
  // close.
  bool OneChunk() const { return memory_.chunk >= sizes_.vocabulary; }

  int32_t Label(int64_t i) const { return args_.labels.As<int32_t>()[first_token_ + labels_.token[i]]; }

  void ReduceLogits(int64_t begin, int64_t columns) {
    pool_.ParallelFor(labels_.count, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) {
        const float* logits = head_.LogitsOf(i);
        for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
          memory_.sums[i].AddBlock(logits + v, std::min(kVocabularyBlock, columns - v));
        }
        const int64_t label = Label(i) - begin;
        if (label >= 0 && label < columns) memory_.label_logit[i] = logits[label];
        if (begin + columns < sizes_.vocabulary) continue;
        memory_.lse[i] = memory_.sums[i].Value();
        if (args_.dx && OneChunk()) LogitGradient(i, begin, columns);
      }
    });
  }

  void LogitGradients(int64_t begin, int64_t columns) {
    pool_.ParallelFor(labels_.count, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) LogitGradient(i, begin, columns);
    });
  }

  void StoreLoss() {
    double loss = 0, squares = 0;
    for (int64_t i = 0; i < labels_.count; ++i) {
      const double lse = memory_.lse[i];
      loss += lse - static_cast<double>(memory_.label_logit[i]);
      squares += lse * lse;
    }
    args_.loss.As<double>()[row_] = loss;
    if (args_.z_sum) args_.z_sum.As<double>()[row_] = squares;
    for (int64_t s = 0; args_.log_probs && s < sizes_.tokens; ++s) {
      const int32_t i = labels_.slot[s];
      args_.log_probs.As<float>()[first_token_ + s] = i < 0 ? 0.0f : memory_.label_logit[i] - memory_.lse[i];
    }
  }

  // Turns a token's logits of entries [begin, begin + columns) into their gradients, rounded to T.
  void LogitGradient(int64_t i, int64_t begin, int64_t columns) {
    const float* logits = head_.LogitsOf(i);
    Operand<T>* out = head_.GradientsOf(i);  // never beyond what has been read
    const float weight =
        args_.token_weights ? args_.token_weights.As<float>()[first_token_ + labels_.token[i]] : args_.scale;
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
    head_.EndGradients(i, columns);
  }

  const CrossEntropyArgs& args_;
  const int64_t row_, first_token_;
  const HeadSizes& sizes_;
  RowMemory<T>& memory_;
  const RowLabels& labels_;
  HeadRow<T> head_;
  ThreadPool& pool_;
};

}  // namespace

void CpuKernels::LinearCrossEntropy(const CrossEntropyArgs& args) {
  CheckCrossEntropy(args);
  if (args.rows == 0) return;
  const HeadSizes sizes = {args.x.size(0) / args.rows, args.head.in, args.head.out};
  DispatchFloat(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Purpose purpose = args.dx ? Purpose::kTraining : Purpose::kForward;
    const int64_t bytes = RowMemory<T>(sizes, purpose, nullptr).carver.used();
    // The forward pass alone takes no scratch of threads, so that of the caller can hold the row.
    if (args.dx) CHECK_LE(bytes, args.workspace.Bytes());
    RowMemory<T> memory(sizes, purpose, args.dx ? args.workspace.data : pool_.Scratch(0, bytes));
    for (int64_t row = 0; row < args.rows; ++row) RowLoss<T>(args, row, sizes, memory, pool_).Run();
  });
}

int64_t CpuKernels::CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                          DType dtype) const {
  const HeadSizes sizes = {tokens / std::max<int64_t>(rows, 1), hidden, vocabulary};
  int64_t bytes = 0;
  DispatchFloat(
      dtype, [&](auto zero) { bytes = RowMemory<decltype(zero)>(sizes, Purpose::kTraining, nullptr).carver.used(); });
  return bytes;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
