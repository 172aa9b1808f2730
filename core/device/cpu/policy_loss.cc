// SPDX-License-Identifier: Apache-2.0
// The loss of a policy that learns from samples of an older one, and its gradient with respect to log-probabilities: a
// few numbers per token, so scalar code in doubles, one row after the other in position order. No libm: exp is
// core/base/exact_math.h's, and the same on every machine.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/check.h"
#include "core/base/exact_math.h"
#include "core/device/cpu/cpu_kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// Of one token: its loss and the slope of it, and which bound of the ratio it has reached.
struct Term {
  double loss = 0;
  double slope = 0;  // by log ratio, or by log-probability where the ratio is a constant
  bool low = false, high = false, dual = false;
};

Term ClippedTerm(const PolicyRule& rule, double ratio, double advantage) {
  Term term;
  if (advantage == 0) return term;  // whatever the ratio, infinity included
  double counted = ratio;
  if (advantage > 0) {
    term.high = ratio > 1 + rule.clip_high;
    if (term.high) counted = 1 + rule.clip_high;
  } else {
    term.low = ratio < 1 - rule.clip_low;
    term.dual = rule.dual > 0 && ratio > rule.dual;
    if (term.low) counted = 1 - rule.clip_low;
    if (term.dual) counted = rule.dual;
  }
  term.loss = -counted * advantage;
  term.slope = term.low || term.high || term.dual ? 0 : term.loss;
  return term;
}

Term CappedTerm(const PolicyRule& rule, double ratio, double advantage, double log_prob) {
  Term term{.high = ratio > rule.cap};
  term.slope = -(term.high ? rule.cap : ratio) * advantage;
  term.loss = term.slope * log_prob;
  return term;
}

// e^d - d - 1: 0 where d is.
double K3(double d) { return ExactExp(d) - d - 1; }

// NaN is the largest.
void RaiseTo(double value, double& largest) {
  if (largest == largest && !(value <= largest)) largest = value;
}

class RowPolicyLoss {
 public:
  RowPolicyLoss(const PolicyLossArgs& args, int64_t row)
      : args_(args), rule_(args.rule), length_(args.sequences.size(1)), first_(row * length_), row_(row) {}

  void Run() {
    const int32_t* sequences = args_.sequences.As<int32_t>() + first_;
    if (args_.token_weights) std::fill_n(args_.token_weights.As<float>() + first_, length_, 0.0f);
    for (int64_t begin = 0, end; begin < length_; begin = end) {
      for (end = begin + 1; end < length_ && sequences[end] == sequences[begin];) ++end;
      if (sequences[begin] >= 0) RunSequence(begin, end);
    }
    if (args_.sums) std::copy_n(sums_, kPolicySums, args_.sums.As<double>() + row_ * kPolicySums);
  }

 private:
  double At(const Tensor& x, int64_t s) const { return static_cast<double>(x.As<float>()[first_ + s]); }
  double LogRatio(int64_t s) const { return At(args_.log_probs, s) - At(args_.old_log_probs, s); }
  double& Sum(PolicySum which) { return sums_[static_cast<int64_t>(which)]; }

  void RunSequence(int64_t begin, int64_t end) {
    const bool shared = rule_.ratio == PolicyRule::Ratio::kSequence;
    const double count = static_cast<double>(end - begin);
    double log_ratios = 0, slopes = 0;
    for (int64_t s = begin; shared && s < end; ++s) log_ratios += LogRatio(s);
    for (int64_t s = begin; s < end; ++s) {
      const double ratio = ExactExp(shared ? log_ratios / count : LogRatio(s)), weight = At(args_.weights, s);
      const double advantage = At(args_.advantages, s);
      const Term term = rule_.cap > 0 ? CappedTerm(rule_, ratio, advantage, At(args_.log_probs, s))
                                      : ClippedTerm(rule_, ratio, advantage);
      AddToSums(s, weight, term);
      slopes += weight * term.slope;
      StoreWeight(s, weight * term.slope);
    }
    // Each token moves the ratio of all.
    for (int64_t s = begin; shared && rule_.cap <= 0 && s < end; ++s) StoreWeight(s, slopes / count);
  }

  struct Divergence {
    double value = 0, slope = 0;  // by log-probability
  };
  Divergence DivergenceOf(int64_t s) const {
    const double d = At(args_.reference_log_probs, s) - At(args_.log_probs, s);
    switch (rule_.estimator) {
      case PolicyRule::Kl::kK1:
        return {-d, 1};
      case PolicyRule::Kl::kK2:
        return {d * d / 2, -d};
      case PolicyRule::Kl::kK3:
        return {K3(d), 1 - ExactExp(d)};
      case PolicyRule::Kl::kWeightedK3: {
        const double ratio = ExactExp(LogRatio(s));
        return {ratio * K3(d), -ratio * d};
      }
    }
    return {};
  }

  void StoreWeight(int64_t s, double slope) {
    if (!args_.token_weights) return;
    if (rule_.kl != 0) slope += At(args_.weights, s) * rule_.kl * DivergenceOf(s).slope;
    args_.token_weights.As<float>()[first_ + s] = static_cast<float>(-slope);
  }

  void AddToSums(int64_t s, double weight, const Term& term) {
    if (!args_.sums) return;
    Sum(PolicySum::kLoss) += weight * (rule_.kl != 0 ? term.loss + rule_.kl * DivergenceOf(s).value : term.loss);
    Sum(PolicySum::kTokens) += 1;
    Sum(PolicySum::kClippedLow) += term.low;
    Sum(PolicySum::kClippedHigh) += term.high;
    Sum(PolicySum::kDualClipped) += term.dual;
    const double log_ratio = LogRatio(s), ratio = ExactExp(log_ratio), difference = std::fabs(log_ratio);
    Sum(PolicySum::kRatio) += ratio;
    Sum(PolicySum::kKl) += K3(log_ratio);
    if (args_.reference_log_probs) {
      Sum(PolicySum::kReferenceKl) += K3(At(args_.reference_log_probs, s) - At(args_.log_probs, s));
    }
    Sum(PolicySum::kDifference) += difference;
    Sum(PolicySum::kDifferingTokens) += std::bit_cast<uint32_t>(args_.log_probs.As<float>()[first_ + s]) !=
                                        std::bit_cast<uint32_t>(args_.old_log_probs.As<float>()[first_ + s]);
    RaiseTo(difference, Sum(PolicySum::kLargestDifference));
    RaiseTo(ratio, Sum(PolicySum::kLargestRatio));
  }

  const PolicyLossArgs& args_;
  const PolicyRule& rule_;
  const int64_t length_, first_, row_;
  double sums_[kPolicySums] = {};
};

void CheckPolicyLoss(const PolicyLossArgs& args) {
  CHECK(args.sequences.dtype == DType::kI32 && args.sequences.rank == 2 && args.sequences.Contiguous());
  for (const Tensor& x : {args.log_probs, args.old_log_probs, args.advantages, args.weights}) {
    CHECK(x.dtype == DType::kF32 && x.Contiguous());
    CHECK_EQ(x.Elements(), args.sequences.Elements());
  }
  for (const Tensor& x : {args.reference_log_probs, args.token_weights}) {
    if (x) CHECK(x.dtype == DType::kF32 && x.Contiguous() && x.Elements() == args.sequences.Elements());
  }
  CHECK(args.rule.kl == 0 || args.reference_log_probs || args.sequences.size(0) == 0);
  if (!args.sums) return;
  CHECK(args.sums.dtype == DType::kF64 && args.sums.Contiguous());
  CHECK_EQ(args.sums.Elements(), args.sequences.size(0) * kPolicySums);
}

}  // namespace

void CpuKernels::PolicyLoss(const PolicyLossArgs& args) {
  CheckPolicyLoss(args);
  pool_.ParallelFor(args.sequences.size(0), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) RowPolicyLoss(args, row).Run();
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
