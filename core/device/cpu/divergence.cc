// SPDX-License-Identifier: Apache-2.0
// Divergence of two distributions over the vocabulary, fused with the heads that make them (head_pass.h): logits s of
// the student and t of the teacher, chunk by chunk. With weights w of the one, e^w / sum, and o of the other,
//   KL = sum_v p_v (w_v - o_v) - lse(w) + lse(o),
// so the first walk over the vocabulary is enough: the sum goes the way of the log-sum-exp, block by block. Equal
// logits give exactly 0, and so do their gradients. Gradients stand in the student's place, as those of the cross
// entropy do.
#include <algorithm>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/head_pass.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

using Direction = DivergenceArgs::Direction;

constexpr int64_t kLogits = int64_t{32} << 20;  // bytes of logits of each model held at once

// The two models, which share a vocabulary, and how it is cut.
struct Heads {
  explicit Heads(const DivergenceArgs& args)
      : student{args.student.rows, args.student.x.size(0) / std::max<int64_t>(args.student.rows, 1),
                args.student.head.in, args.student.head.out},
        teacher{student.rows, student.tokens, args.teacher_head.in, student.vocabulary},
        plan(HeadPlan::Training(student, kLogits)) {}

  HeadSizes student, teacher;
  HeadPlan plan;
};

// What is summed over one token's vocabulary.
struct DivergenceSums {
  LogSumExp student, teacher;
  float difference = 0;  // sum of e^(w - max) (w - o)

  // The next block of both, as LogSumExp::AddBlock.
  void AddBlock(Direction direction, const float* s, const float* t, int64_t n) {
    if (direction == Direction::kForward) {
      AddDifference(teacher.AddBlock(t, n), t, s, n);
      student.AddBlock(s, n);
    } else {
      AddDifference(student.AddBlock(s, n), s, t, n);
      teacher.AddBlock(t, n);
    }
  }

  double Divergence(Direction direction, float student_lse, float teacher_lse) const {
    const bool forward = direction == Direction::kForward;
    const double mean = static_cast<double>(difference) / static_cast<double>((forward ? teacher : student).sum);
    const double shift = static_cast<double>(student_lse) - static_cast<double>(teacher_lse);
    return forward ? mean + shift : mean - shift;
  }

 private:
  void AddDifference(const LogSumExp::Joined& joined, const float* w, const float* o, int64_t n) {
    const F32x16 shift = Set(joined.shift);
    F32x16 lanes = Set(0.0f);
    ForEachVector(n, [&](int64_t v, auto part) {
      const F32x16 weight = LoadLanes(w + v, part);  // lanes beyond the end have a difference of 0
      lanes = Fma(Exp(Min(weight - shift, Set(0.0f))), weight - LoadLanes(o + v, part), lanes);
    });
    difference = difference * joined.before + Sum(lanes) * joined.block;
  }
};

// One row of the batch.
template <class T>
class DivergenceRow {
 public:
  DivergenceRow(const DivergenceArgs& args, const Heads& heads, int64_t row, Carver& carver)
      : args_(args),
        own_(args.student),
        heads_(heads),
        sizes_(heads.student),
        row_(row),
        first_token_(row * sizes_.tokens),
        labels_(carver, sizes_.tokens),
        sums_(carver.Take<DivergenceSums>(sizes_.tokens)),
        student_lse_(carver.Take<float>(sizes_.tokens)),
        teacher_lse_(carver.Take<float>(sizes_.tokens)),
        divergence_(carver.Take<double>(sizes_.tokens)),
        label_logit_(carver.Take<float>(sizes_.tokens)),
        gradients_(carver, sizes_, heads.plan.chunk),
        teacher_logits_(heads.plan.chunk, carver.Take<float>(sizes_.tokens * gradients_.logits.pitch)) {}

  static int64_t Scratch(const Heads& heads) {
    Carver tokens(nullptr), weights(nullptr);
    Blocks(tokens, heads);
    weights.Take<Operand<T>>(PanelElements<T>(heads.student.tokens));
    return std::max(tokens.used(), weights.used());
  }

  const RowLabels& labels() const { return labels_; }

  void Begin() const {
    labels_.Find(own_.labels.As<int32_t>() + first_token_, sizes_);
    std::fill_n(sums_, *labels_.count, DivergenceSums{});
  }

  void RunTokens(const TokenBlock& tokens, int64_t begin, int64_t columns, void* scratch) const {
    Carver carver(scratch);
    Blocks blocks(carver, heads_);
    blocks.student.Gather(labels_, tokens, FromToken<T>(own_.x, first_token_), own_.x.stride(0));
    blocks.teacher.Gather(labels_, tokens, FromToken<T>(args_.teacher_x, first_token_), args_.teacher_x.stride(0));
    if (begin == 0) {
      blocks.student.Pack(tokens, gradients_.x_panels);
      ForEachChunk(sizes_.vocabulary, heads_.plan.chunk, [&](int64_t first, int64_t count) {
        Logits(tokens, blocks, first, count);
        for (int64_t i = tokens.first; i < tokens.last; ++i) Reduce(i, first, count);
      });
    }
    if (!heads_.plan.OneChunk(sizes_)) Logits(tokens, blocks, begin, columns);
    for (int64_t i = tokens.first; i < tokens.last; ++i) LogitGradient(i, columns);
    blocks.student.InputGradient(own_.head_backward, begin, columns, gradients_.logits.From(tokens.first),
                                 gradients_.dx + tokens.first * sizes_.hidden);
    if (begin + columns < sizes_.vocabulary) return;
    gradients_.StoreInputGradient(sizes_, labels_, tokens, FromToken<T>(own_.dx, first_token_), own_.dx.stride(0));
  }

  void AddWeightGradient(int64_t begin, int64_t first, int64_t last, void* scratch) const {
    gradients_.AddWeightGradient(sizes_, labels_, own_.target, begin, first, last, static_cast<Operand<T>*>(scratch));
  }

  void End() const {
    const int64_t count = *labels_.count;
    double loss = 0, squares = 0, divergence = 0;
    for (int64_t i = 0; i < count; ++i) {
      const double lse = student_lse_[i];
      loss += lse - static_cast<double>(label_logit_[i]);
      squares += lse * lse;
      divergence += divergence_[i];
    }
    own_.loss.As<double>()[row_] = loss;
    if (own_.z_sum) own_.z_sum.As<double>()[row_] = squares;
    args_.divergence.As<double>()[row_] = divergence;
    if (!own_.log_probs) return;
    float* log_probs = own_.log_probs.As<float>() + first_token_;
    std::fill_n(log_probs, sizes_.tokens, 0.0f);
    for (int64_t i = 0; i < count; ++i) log_probs[labels_.token[i]] = label_logit_[i] - student_lse_[i];
  }

 private:
  struct Blocks {
    Blocks(Carver& carver, const Heads& heads)
        : student(carver, heads.student, kTokenBlock), teacher(carver, heads.teacher, kTokenBlock) {}
    HeadBlock<T> student, teacher;
  };

  void Logits(const TokenBlock& tokens, const Blocks& blocks, int64_t begin, int64_t columns) const {
    blocks.student.Logits(own_.head, own_.temperature, begin, columns, gradients_.logits.From(tokens.first));
    blocks.teacher.Logits(args_.teacher_head, own_.temperature, begin, columns, teacher_logits_.From(tokens.first));
  }

  void Reduce(int64_t i, int64_t begin, int64_t columns) const {
    const float *s = gradients_.logits[i], *t = teacher_logits_[i];
    DivergenceSums& sums = sums_[i];
    for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
      sums.AddBlock(args_.direction, s + v, t + v, std::min(kVocabularyBlock, columns - v));
    }
    const int64_t label = own_.labels.As<int32_t>()[first_token_ + labels_.token[i]] - begin;
    if (label >= 0 && label < columns) label_logit_[i] = s[label];
    if (begin + columns < sizes_.vocabulary) return;
    student_lse_[i] = sums.student.Value();
    teacher_lse_[i] = sums.teacher.Value();
    divergence_[i] = sums.Divergence(args_.direction, student_lse_[i], teacher_lse_[i]);
  }

  // Turns the student's logits of a chunk into their gradients, rounded to T.
  void LogitGradient(int64_t i, int64_t columns) const {
    const float *s = gradients_.logits[i], *t = teacher_logits_[i];
    Operand<T>* out = GradientsOf<T>(gradients_.logits[i]);  // never beyond what has been read
    const float weight =
        own_.token_weights ? own_.token_weights.As<float>()[first_token_ + labels_.token[i]] : own_.scale;
    const F32x16 scale = Set(weight / own_.temperature);
    const F32x16 student_lse = Set(student_lse_[i]), teacher_lse = Set(teacher_lse_[i]);
    const F32x16 divergence = Set(static_cast<float>(divergence_[i]));
    const bool forward = args_.direction == Direction::kForward;
    for (int64_t v = 0; v < columns; v += kLanes) {  // rows are padded
      const F32x16 log_s = Load(s + v) - student_lse, log_t = Load(t + v) - teacher_lse, p = Exp(log_s);
      StoreOperands<T>(out + v, (forward ? p - Exp(log_t) : p * (log_s - log_t - divergence)) * scale);
    }
    HeadGradients<T>::End(out, columns);
  }

  const DivergenceArgs& args_;
  const CrossEntropyArgs& own_;
  const Heads& heads_;
  const HeadSizes& sizes_;
  const int64_t row_, first_token_;
  const RowLabels labels_;
  // By token with a label:
  DivergenceSums* const sums_;                     // [S]
  float *const student_lse_, *const teacher_lse_;  // [S]
  double* const divergence_;                       // [S]
  float* const label_logit_;                       // [S], of the student
  const HeadGradients<T> gradients_;               // of the student
  const LogitRows teacher_logits_;
};

template <class T>
int64_t BytesOfRow(const DivergenceArgs& args, const Heads& heads) {
  Carver carver(nullptr);
  DivergenceRow<T>(args, heads, 0, carver);
  return carver.used();
}

void CheckDivergence(const DivergenceArgs& args) {
  CheckCrossEntropy(args.student);
  CHECK(args.student.dx && args.student.z_loss == 0);
  CHECK(args.teacher_x.rank == 2 && args.teacher_x.dtype == args.student.x.dtype);
  CHECK(args.teacher_head.dtype == args.teacher_x.dtype && args.teacher_head.matrices == 1);
  CHECK_EQ(args.teacher_x.size(0), args.student.x.size(0));
  CHECK_EQ(args.teacher_x.size(1), args.teacher_head.in);
  CHECK_EQ(args.teacher_head.out, args.student.head.out);
  CHECK_EQ(args.divergence.Elements(), args.student.rows);
}

}  // namespace

void CpuKernels::LinearDivergence(const DivergenceArgs& args) {
  CheckDivergence(args);
  if (args.student.rows == 0) return;
  const Heads heads(args);
  DispatchFloat(args.student.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t row_bytes = BytesOfRow<T>(args, heads);
    CHECK_LE(heads.plan.slots * row_bytes, args.student.workspace.Bytes());
    const auto row_at = [&](int64_t row) {
      Carver carver(args.student.workspace.As<char>() + heads.plan.SlotOf(row) * row_bytes);
      return DivergenceRow<T>(args, heads, row, carver);
    };
    HeadPass(heads.student, heads.plan, DivergenceRow<T>::Scratch(heads), pool_, row_at).Run();
  });
}

int64_t CpuKernels::DivergenceWorkspace(const DivergenceArgs& args) const {
  const Heads heads(args);
  int64_t bytes = 0;
  DispatchFloat(args.student.x.dtype,
                [&](auto zero) { bytes = heads.plan.slots * BytesOfRow<decltype(zero)>(args, heads); });
  return bytes;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
