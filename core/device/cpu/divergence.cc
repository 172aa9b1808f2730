// SPDX-License-Identifier: Apache-2.0
// Divergence of two distributions over the vocabulary, fused with the heads that make them (head_row.h): logits s of
// the student and t of the teacher, chunk by chunk. With weights w of the one, e^w / sum, and o of the other,
//   KL = sum_v p_v (w_v - o_v) - lse(w) + lse(o),
// so the first walk over the vocabulary is enough: the sum goes the way of the log-sum-exp, block by block. Equal
// logits give exactly 0, and so do their gradients. Gradients stand in the student's place, as those of the cross
// entropy do.
#include <algorithm>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/head_row.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

using Direction = DivergenceArgs::Direction;

constexpr int64_t kLogits = int64_t{32} << 20;  // bytes of logits of each model held at once

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

template <class T>
struct RowMemory {
  using Use = typename HeadRowMemory<T>::Use;
  RowMemory(const HeadSizes& student_sizes, const HeadSizes& teacher_sizes, void* memory)
      : carver(memory),
        chunk(ChunkColumns(student_sizes, kLogits)),
        labels(carver, student_sizes.tokens),
        sums(carver.Take<DivergenceSums>(student_sizes.tokens)),
        student_lse(carver.Take<float>(student_sizes.tokens)),
        teacher_lse(carver.Take<float>(student_sizes.tokens)),
        divergence(carver.Take<double>(student_sizes.tokens)),
        label_logit(carver.Take<float>(student_sizes.tokens)),
        student(carver, student_sizes, chunk, Use::kGradients),
        teacher(carver, teacher_sizes, chunk, Use::kLogits) {}

  Carver carver;
  int64_t chunk;
  RowLabels labels;
  // By token with a label:
  DivergenceSums* sums;              // [S]
  float *student_lse, *teacher_lse;  // [S]
  double* divergence;                // [S]
  float* label_logit;                // [S], of the student
  HeadRowMemory<T> student, teacher;
};

// One row of the batch.
template <class T>
class RowDivergence {
 public:
  RowDivergence(const DivergenceArgs& args, int64_t row, const HeadSizes& student_sizes, const HeadSizes& teacher_sizes,
                RowMemory<T>& memory, ThreadPool& pool)
      : args_(args),
        own_(args.student),
        row_(row),
        first_token_(row * student_sizes.tokens),
        sizes_(student_sizes),
        memory_(memory),
        labels_(memory.labels),
        student_(student_sizes, memory.labels, memory.student, pool),
        teacher_(teacher_sizes, memory.labels, memory.teacher, pool),
        pool_(pool) {}

  void Run() {
    memory_.labels.Find(own_.labels.As<int32_t>() + first_token_, sizes_.tokens, sizes_.vocabulary);
    student_.GatherTokens(FromToken<T>(own_.x, first_token_), own_.x.stride(0));
    teacher_.GatherTokens(FromToken<T>(args_.teacher_x, first_token_), args_.teacher_x.stride(0));
    std::fill_n(memory_.sums, labels_.count, DivergenceSums{});
    ForEachChunk(sizes_.vocabulary, memory_.chunk, [&](int64_t begin, int64_t columns) {
      Logits(begin, columns);
      ForEachToken(columns, [&](int64_t i) { Reduce(i, begin, columns); });
    });
    StoreSums();
    student_.PackTokens();
    ForEachChunk(sizes_.vocabulary, memory_.chunk, [&](int64_t begin, int64_t columns) {
      if (!OneChunk()) {
        Logits(begin, columns);
        ForEachToken(columns, [&](int64_t i) { LogitGradient(i, columns); });
      }
      student_.InputGradient(own_.head_backward, begin, columns);
      student_.WeightGradient(own_.target, begin, columns);
    });
    student_.StoreInputGradient(FromToken<T>(own_.dx, first_token_), own_.dx.stride(0));
  }

 private:
  // Then gradients are computed as soon as a token's sums are known, while its logits are close.
  bool OneChunk() const { return memory_.chunk >= sizes_.vocabulary; }

  template <class Body>
  void ForEachToken(int64_t columns, const Body& body) {
    pool_.ParallelFor(labels_.count, std::max<int64_t>(1, 4096 / columns), [&](int64_t first, int64_t last, int) {
      for (int64_t i = first; i < last; ++i) body(i);
    });
  }

  void Logits(int64_t begin, int64_t columns) {
    student_.Logits(own_.head, own_.temperature, begin, columns);
    teacher_.Logits(args_.teacher_head, own_.temperature, begin, columns);
  }

  void Reduce(int64_t i, int64_t begin, int64_t columns) {
    const float *s = student_.LogitsOf(i), *t = teacher_.LogitsOf(i);
    DivergenceSums& sums = memory_.sums[i];
    for (int64_t v = 0; v < columns; v += kVocabularyBlock) {
      sums.AddBlock(args_.direction, s + v, t + v, std::min(kVocabularyBlock, columns - v));
    }
    const int64_t label = own_.labels.As<int32_t>()[first_token_ + labels_.token[i]] - begin;
    if (label >= 0 && label < columns) memory_.label_logit[i] = s[label];
    if (begin + columns < sizes_.vocabulary) return;
    memory_.student_lse[i] = sums.student.Value();
    memory_.teacher_lse[i] = sums.teacher.Value();
    memory_.divergence[i] = sums.Divergence(args_.direction, memory_.student_lse[i], memory_.teacher_lse[i]);
    if (OneChunk()) LogitGradient(i, columns);
  }

  void StoreSums() {
    double loss = 0, squares = 0, divergence = 0;
    for (int64_t i = 0; i < labels_.count; ++i) {
      const double lse = memory_.student_lse[i];
      loss += lse - static_cast<double>(memory_.label_logit[i]);
      squares += lse * lse;
      divergence += memory_.divergence[i];
    }
    own_.loss.As<double>()[row_] = loss;
    if (own_.z_sum) own_.z_sum.As<double>()[row_] = squares;
    args_.divergence.As<double>()[row_] = divergence;
    for (int64_t s = 0; own_.log_probs && s < sizes_.tokens; ++s) {
      const int32_t i = labels_.slot[s];
      own_.log_probs.As<float>()[first_token_ + s] = i < 0 ? 0.0f : memory_.label_logit[i] - memory_.student_lse[i];
    }
  }

  // Turns the student's logits of a chunk into their gradients, rounded to T.
  void LogitGradient(int64_t i, int64_t columns) {
    const float *s = student_.LogitsOf(i), *t = teacher_.LogitsOf(i);
    Operand<T>* out = student_.GradientsOf(i);  // never beyond what has been read
    const float weight =
        own_.token_weights ? own_.token_weights.As<float>()[first_token_ + labels_.token[i]] : own_.scale;
    const F32x16 scale = Set(weight / own_.temperature);
    const F32x16 student_lse = Set(memory_.student_lse[i]), teacher_lse = Set(memory_.teacher_lse[i]);
    const F32x16 divergence = Set(static_cast<float>(memory_.divergence[i]));
    const bool forward = args_.direction == Direction::kForward;
    for (int64_t v = 0; v < columns; v += kLanes) {  // rows are padded
      const F32x16 log_s = Load(s + v) - student_lse, log_t = Load(t + v) - teacher_lse, p = Exp(log_s);
      StoreOperands<T>(out + v, (forward ? p - Exp(log_t) : p * (log_s - log_t - divergence)) * scale);
    }
    student_.EndGradients(i, columns);
  }

  const DivergenceArgs& args_;
  const CrossEntropyArgs& own_;
  const int64_t row_, first_token_;
  const HeadSizes& sizes_;
  RowMemory<T>& memory_;
  const RowLabels& labels_;
  HeadRow<T> student_, teacher_;
  ThreadPool& pool_;
};

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
  const CrossEntropyArgs& own = args.student;
  if (own.rows == 0) return;
  const HeadSizes student = {own.x.size(0) / own.rows, own.head.in, own.head.out};
  const HeadSizes teacher = {student.tokens, args.teacher_head.in, student.vocabulary};
  DispatchFloat(own.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    RowMemory<T> memory(student, teacher, own.workspace.data);
    CHECK_LE(memory.carver.used(), own.workspace.Bytes());
    for (int64_t row = 0; row < own.rows; ++row) RowDivergence<T>(args, row, student, teacher, memory, pool_).Run();
  });
}

int64_t CpuKernels::DivergenceWorkspace(const DivergenceArgs& args) const {
  const CrossEntropyArgs& own = args.student;
  const HeadSizes student = {own.x.size(0) / std::max<int64_t>(own.rows, 1), own.head.in, own.head.out};
  const HeadSizes teacher = {student.tokens, args.teacher_head.in, student.vocabulary};
  int64_t bytes = 0;
  DispatchFloat(own.x.dtype,
                [&](auto zero) { bytes = RowMemory<decltype(zero)>(student, teacher, nullptr).carver.used(); });
  return bytes;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
