// SPDX-License-Identifier: Apache-2.0
// Cross entropy fused with the head (head_pass.h). Logits of a chunk of the vocabulary (all of it if those of a row
// take at most 64 MiB; else they are computed twice, with the same bits), the log-sum-exp of each token, then in place
// d_logits = scale / temperature ((1 + 2 z lse) e^(logit - lse) - onehot), where tokens may bring scales of their own.
#include <algorithm>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/head_pass.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kTrainingLogits = int64_t{64} << 20;  // bytes of logits held at once

// What is known of a row's tokens, by token with a label.
struct RowSums {
  RowSums(Carver& carver, const HeadSizes& sizes)
      : labels(carver, sizes.tokens),
        sums(carver.Take<LogSumExp>(sizes.tokens)),
        lse(carver.Take<float>(sizes.tokens)),
        label_logit(carver.Take<float>(sizes.tokens)) {}

  RowLabels labels;
  LogSumExp* sums;     // [S]
  float* lse;          // [S]
  float* label_logit;  // [S]
};

// One row of the batch, forward.
template <class T>
class RowLoss {
 public:
  RowLoss(const CrossEntropyArgs& args, const HeadSizes& sizes, int64_t row, Carver& carver)
      : args_(args), sizes_(sizes), row_(row), first_token_(row * sizes.tokens), memory_(carver, sizes) {}

  static int64_t TokenScratch(const HeadSizes& sizes) {
    Carver carver(nullptr);
    HeadBlock<T>{carver, sizes, kTokenBlock};
    carver.Take<float>(kTokenBlock * LogitRows(kVocabularyBlock).pitch);
    return carver.used();
  }

  const RowLabels& labels() const { return memory_.labels; }

  void Begin() const {
    memory_.labels.Find(args_.labels.As<int32_t>() + first_token_, sizes_);
    std::fill_n(memory_.sums, *memory_.labels.count, LogSumExp{});
  }

  // Nothing reads the logits a second time.
  void RunTokens(const TokenBlock& tokens, void* scratch) const {
    Carver carver(scratch);
    HeadBlock<T> block(carver, sizes_, kTokenBlock);
    const LogitRows logits(kVocabularyBlock, carver.Take<float>(kTokenBlock * LogitRows(kVocabularyBlock).pitch));
    Gather(tokens, block);
    ReduceAll(tokens, block, kVocabularyBlock, logits);
  }

  void End() const {
    const int64_t count = *memory_.labels.count;
    double loss = 0, squares = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double lse = memory_.lse[i];
      loss += lse - static_cast<double>(memory_.label_logit[i]);
      squares += lse * lse;
    }
    args_.loss.As<double>()[row_] = loss;
    if (args_.z_sum) args_.z_sum.As<double>()[row_] = squares;
    if (!args_.log_probs) return;
    float* log_probs = args_.log_probs.As<float>() + first_token_;
    std::fill_n(log_probs, sizes_.tokens, 0.0f);
    for (int64_t i = 0; i < count; ++i) {
      log_probs[memory_.labels.token[i]] = memory_.label_logit[i] - memory_.lse[i];
    }
  }

 protected:
  void Gather(const TokenBlock& tokens, HeadBlock<T>& block) const {
    block.Gather(labels(), tokens, FromToken<T>(args_.x, first_token_), args_.x.stride(0));
  }

  // Log-sum-exps of the tokens from all of the vocabulary.
  void ReduceAll(const TokenBlock& tokens, const HeadBlock<T>& block, int64_t chunk, LogitRows logits) const {
    ForEachChunk(sizes_.vocabulary, chunk, [&](int64_t begin, int64_t columns) {
      block.Logits(args_.head, args_.temperature, begin, columns, logits);
      for (int64_t i = 0; i < tokens.count(); ++i) Reduce(tokens.first + i, logits[i], begin, columns);
    });
  }

  void Reduce(int64_t i, const float* logits, int64_t begin, int64_t columns) const {
    for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
      memory_.sums[i].AddBlock(logits + v, std::min(kVocabularyBlock, columns - v));
    }
    const int64_t label = Label(i) - begin;
    if (label >= 0 && label < columns) memory_.label_logit[i] = logits[label];
    if (begin + columns >= sizes_.vocabulary) memory_.lse[i] = memory_.sums[i].Value();
  }

  int32_t Label(int64_t i) const { return args_.labels.As<int32_t>()[first_token_ + memory_.labels.token[i]]; }

  const CrossEntropyArgs& args_;
  const HeadSizes& sizes_;
  const int64_t row_, first_token_;
  const RowSums memory_;
};

// The same with gradients.
template <class T>
class TrainedRow : public RowLoss<T> {
 public:
  TrainedRow(const CrossEntropyArgs& args, const HeadSizes& sizes, const HeadPlan& plan, int64_t row, Carver& carver)
      : RowLoss<T>(args, sizes, row, carver), plan_(plan), gradients_(carver, sizes, plan.chunk) {}

  static int64_t Scratch(const HeadSizes& sizes) {
    Carver tokens(nullptr), weights(nullptr);
    HeadBlock<T>(tokens, sizes, kTokenBlock);
    weights.Take<Operand<T>>(PanelElements<T>(sizes.tokens));
    return std::max(tokens.used(), weights.used());
  }

  void RunTokens(const TokenBlock& tokens, int64_t begin, int64_t columns, void* scratch) const {
    Carver carver(scratch);
    HeadBlock<T> block(carver, sizes_, kTokenBlock);
    const LogitRows logits = gradients_.logits.From(tokens.first);
    float* dx = gradients_.dx + tokens.first * sizes_.hidden;
    this->Gather(tokens, block);
    if (begin == 0) {
      block.Pack(tokens, gradients_.x_panels);
      this->ReduceAll(tokens, block, plan_.chunk, logits);
    }
    if (!plan_.OneChunk(sizes_)) block.Logits(args_.head, args_.temperature, begin, columns, logits);
    for (int64_t i = 0; i < tokens.count(); ++i) LogitGradient(tokens.first + i, logits[i], begin, columns);
    block.InputGradient(args_.head_backward, begin, columns, logits, dx);
    if (begin + columns < sizes_.vocabulary) return;
    gradients_.StoreInputGradient(sizes_, this->labels(), tokens, FromToken<T>(args_.dx, this->first_token_),
                                  args_.dx.stride(0));
  }

  void AddWeightGradient(int64_t begin, int64_t first, int64_t last, void* scratch) const {
    gradients_.AddWeightGradient(sizes_, this->labels(), args_.target, begin, first, last,
                                 static_cast<Operand<T>*>(scratch));
  }

 private:
  using RowLoss<T>::args_, RowLoss<T>::sizes_, RowLoss<T>::memory_;

  // Turns a token's logits of entries [begin, begin + columns) into their gradients, rounded to T.
  void LogitGradient(int64_t i, float* logits, int64_t begin, int64_t columns) const {
    Operand<T>* out = GradientsOf<T>(logits);  // never beyond what has been read
    const Tensor& weights = args_.token_weights;
    const float weight = weights ? weights.As<float>()[this->first_token_ + memory_.labels.token[i]] : args_.scale;
    const F32x16 lse = Set(memory_.lse[i]), scale = Set(weight / args_.temperature);
    const F32x16 factor = Set(1.0f + 2.0f * args_.z_loss * memory_.lse[i]);
    const int64_t label = this->Label(i) - begin;
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
    HeadGradients<T>::End(out, columns);
  }

  const HeadPlan& plan_;
  const HeadGradients<T> gradients_;
};

template <class T>
int64_t RowBytes(const HeadSizes& sizes, const HeadPlan& plan) {
  Carver carver(nullptr);
  const CrossEntropyArgs none{};
  TrainedRow<T>(none, sizes, plan, 0, carver);
  return carver.used();
}

template <class T>
void Train(const CrossEntropyArgs& args, const HeadSizes& sizes, ThreadPool& pool) {
  const HeadPlan plan = HeadPlan::Training(sizes, kTrainingLogits);
  const int64_t row_bytes = RowBytes<T>(sizes, plan);
  CHECK_LE(plan.slots * row_bytes, args.workspace.Bytes());
  const auto row_at = [&](int64_t row) {
    Carver carver(args.workspace.As<char>() + plan.SlotOf(row) * row_bytes);
    return TrainedRow<T>(args, sizes, plan, row, carver);
  };
  HeadPass(sizes, plan, TrainedRow<T>::Scratch(sizes), pool, row_at).Run();
}

// Needs no workspace: what is known of all rows stands behind the scratch of the caller's thread.
template <class T>
void Forward(const CrossEntropyArgs& args, const HeadSizes& sizes, ThreadPool& pool) {
  Carver measure(nullptr);
  RowLoss<T>(args, sizes, 0, measure);
  const int64_t scratch_bytes = RowLoss<T>::TokenScratch(sizes), row_bytes = measure.used();
  char* const memory = static_cast<char*>(pool.Scratch(0, scratch_bytes + sizes.rows * row_bytes)) + scratch_bytes;
  const auto row_at = [&](int64_t row) {
    Carver carver(memory + row * row_bytes);
    return RowLoss<T>(args, sizes, row, carver);
  };
  for (int64_t row = 0; row < sizes.rows; ++row) row_at(row).Begin();
  const int64_t block = TokensOfBlock(sizes, sizes.rows, pool.size()), blocks = (sizes.tokens + block - 1) / block;
  pool.ParallelFor(sizes.rows * blocks, 1, [&](int64_t first, int64_t last, int thread) {
    for (int64_t item = first; item < last; ++item) {
      const RowLoss<T> row = row_at(item / blocks);
      const TokenBlock here = BlockOf(row.labels(), item % blocks, block);
      if (here.count() > 0) row.RunTokens(here, pool.Scratch(thread, scratch_bytes));
    }
  });
  for (int64_t row = 0; row < sizes.rows; ++row) row_at(row).End();
}

HeadSizes SizesOf(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary) {
  return {rows, tokens / std::max<int64_t>(rows, 1), hidden, vocabulary};
}

}  // namespace

void CpuKernels::LinearCrossEntropy(const CrossEntropyArgs& args) {
  CheckCrossEntropy(args);
  if (args.rows == 0) return;
  const HeadSizes sizes = SizesOf(args.x.size(0), args.rows, args.head.in, args.head.out);
  DispatchFloat(args.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (args.dx) {
      Train<T>(args, sizes, pool_);
    } else {
      Forward<T>(args, sizes, pool_);
    }
  });
}

int64_t CpuKernels::CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                          DType dtype) const {
  const HeadSizes sizes = SizesOf(tokens, rows, hidden, vocabulary);
  const HeadPlan plan = HeadPlan::Training(sizes, kTrainingLogits);
  int64_t bytes = 0;
  DispatchFloat(dtype, [&](auto zero) { bytes = plan.slots * RowBytes<decltype(zero)>(sizes, plan); });
  return bytes;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
