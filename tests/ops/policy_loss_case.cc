// SPDX-License-Identifier: Apache-2.0
// The policy loss by row, its gradient, and what it counts, under every kind of rule. The upstream gradient of the loss
// is -1: then the gradient of log_probs is the token weights.
#include "tests/ops/op_cases.h"
#include "tests/support/policy_loss_reference.h"

namespace conclave::core::test {
namespace {

const std::vector<PolicyRule>& Rules() {
  using Ratio = PolicyRule::Ratio;
  using Kl = PolicyRule::Kl;
  static const std::vector<PolicyRule> rules = {
      {},
      {.clip_high = 0.28},
      {.dual = 1.5},
      {.cap = 1.3},
      {.kl = 0.04},
      {.kl = 0.5, .estimator = Kl::kK1},
      {.dual = 3, .kl = 0.5, .estimator = Kl::kK2},
      {.kl = 0.5, .estimator = Kl::kWeightedK3},
      {.ratio = Ratio::kSequence, .clip_low = 3e-2, .clip_high = 4e-2},
      {.ratio = Ratio::kSequence, .clip_low = 0.3, .clip_high = 0.3, .dual = 1.4, .kl = 0.1},
      {.ratio = Ratio::kSequence, .cap = 1.05, .kl = 0.1, .estimator = Kl::kK2},
  };
  return rules;
}

// rows x length x rule
struct Sizes {
  int64_t rows, length;
  const PolicyRule& rule;
  explicit Sizes(const Shape& s) : rows(s[0]), length(s[1]), rule(Rules()[static_cast<size_t>(s[2])]) {}
};

struct PolicyLossFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const Sizes z(shape);
    PolicyTokens<T> tokens;
    tokens.log_probs = in["log_probs"];
    for (int64_t t = 0; t < z.rows * z.length; ++t) {
      const auto i = static_cast<size_t>(t);
      tokens.old_log_probs.push_back(Real(in["old_log_probs"][i]));
      tokens.reference_log_probs.push_back(Real(in["reference_log_probs"][i]));
      tokens.advantages.push_back(Real(in["advantages"][i]));
      tokens.weights.push_back(Real(in["weights"][i]));
      tokens.sequences.push_back(in.Integer("sequences", t));
    }
    for (int64_t row = 0; row < z.rows; ++row) {
      out["loss"].push_back(PolicyLossReference(z.rule, tokens, row * z.length, (row + 1) * z.length));
      const std::vector<double> sums = Sums(z.rule, tokens, row * z.length, (row + 1) * z.length);
      out["sums"].push_back(out["loss"].back());
      for (size_t i = 1; i < sums.size(); ++i) out["sums"].push_back(T(sums[i]));
    }
  }

 private:
  template <class T>
  static std::vector<double> Sums(const PolicyRule& rule, const PolicyTokens<T>& tokens, int64_t begin, int64_t end) {
    std::vector<double> sums(kPolicySums);
    const auto sum = [&](PolicySum which) -> double& { return sums[static_cast<size_t>(which)]; };
    for (int64_t s = begin; s < end; ++s) {
      const auto i = static_cast<size_t>(s);
      if (tokens.sequences[i] < 0) continue;
      double log_ratio = Real(tokens.log_probs[i]) - tokens.old_log_probs[i];
      const double own = std::exp(log_ratio), d = tokens.reference_log_probs[i] - Real(tokens.log_probs[i]);
      sum(PolicySum::kTokens) += 1;
      sum(PolicySum::kRatio) += own;
      sum(PolicySum::kKl) += own - 1 - log_ratio;
      sum(PolicySum::kReferenceKl) += std::exp(d) - 1 - d;
      sum(PolicySum::kDifference) += std::fabs(log_ratio);
      sum(PolicySum::kDifferingTokens) += log_ratio != 0;
      sum(PolicySum::kLargestDifference) = std::max(sum(PolicySum::kLargestDifference), std::fabs(log_ratio));
      sum(PolicySum::kLargestRatio) = std::max(sum(PolicySum::kLargestRatio), own);
      if (rule.ratio == PolicyRule::Ratio::kSequence) log_ratio = SequenceLogRatio(tokens, begin, end, s);
      const double ratio = std::exp(log_ratio), advantage = tokens.advantages[i];
      if (rule.cap > 0) {
        sum(PolicySum::kClippedHigh) += ratio > rule.cap;
        continue;
      }
      sum(PolicySum::kClippedLow) += advantage < 0 && ratio < 1 - rule.clip_low;
      sum(PolicySum::kClippedHigh) += advantage > 0 && ratio > 1 + rule.clip_high;
      sum(PolicySum::kDualClipped) += rule.dual > 0 && advantage < 0 && ratio > rule.dual;
    }
    return sums;
  }

  template <class T>
  static double SequenceLogRatio(const PolicyTokens<T>& tokens, int64_t begin, int64_t end, int64_t s) {
    double sum = 0, count = 0;
    for (int64_t u = begin; u < end; ++u) {
      const auto j = static_cast<size_t>(u);
      if (tokens.sequences[j] != tokens.sequences[static_cast<size_t>(s)]) continue;
      sum += Real(tokens.log_probs[j]) - tokens.old_log_probs[j];
      count += 1;
    }
    return sum / count;
  }
};

// Prompts of three tokens, answers of one to six, one after the other.
std::vector<double> Sequences(const Sizes& z) {
  std::vector<double> sequences;
  for (int64_t row = 0; row < z.rows; ++row) {
    int64_t left = -3, answer = 0;
    for (int64_t s = 0; s < z.length; ++s) {
      sequences.push_back(left < 0 ? -1 : static_cast<double>(100 * row + answer));
      if (++left == 0) left = 1;
      if (left > 1 + (row + answer) % 6) {
        left = -3;
        ++answer;
      }
    }
  }
  return sequences;
}

void Setup(const Shape& shape, Problem& p) {
  const Sizes z(shape);
  const Shape tokens = {z.rows, z.length};
  const std::vector<double> far = {-12, -0.001, -3};
  p.Input("log_probs", DType::kF32, tokens).Uniform(-3, -1).PerRow().Extremes(far);
  p.Input("old_log_probs", DType::kF32, tokens).Uniform(-3, -1).PerRow().Extremes(far);
  p.Input("reference_log_probs", DType::kF32, tokens).Uniform(-3, -1).PerRow();
  p.Input("advantages", DType::kF32, tokens).Normal().PerRow().Extremes({0, 100, -100});
  p.Input("weights", DType::kF32, tokens).Uniform(0, 0.1).PerRow().Extremes({0});
  p.Input("sequences", DType::kI32, tokens).Set(Sequences(z)).PerRow();
  p.Input("d_loss", DType::kF64, {z.rows}).Set({-1}).PerRow();
  p.Output("sums", DType::kF64, {z.rows, kPolicySums}, {1e-12, 1e-14, "doubles"}).PerRow();
  // The derivative of e^d - d - 1 by formula loses to e^d what it is compared with.
  const double gradient = p.extreme ? 1e-10 : 1e-12;
  p.Output("d_log_probs", DType::kF32, tokens, Near(DType::kF32, gradient, gradient, "doubles, then rounded")).PerRow();
}

void RunPolicyLoss(Kernels& k, const Tensors& t) {
  k.PolicyLoss({.rule = Sizes(t.shape).rule,
                .log_probs = t["log_probs"],
                .old_log_probs = t["old_log_probs"],
                .reference_log_probs = t["reference_log_probs"],
                .advantages = t["advantages"],
                .weights = t["weights"],
                .sequences = t["sequences"],
                .token_weights = t["d_log_probs"],
                .sums = t["sums"]});
}

}  // namespace

OpCase MakePolicyLossCase() {
  OpCase c{.name = "policy_loss",
           .dims = "rows x length x rule",
           .shapes = {{0, 5, 0}, {1, 1, 0}, {1, 4, 8}},
           .bench_shapes = {{64, 512, 0}, {64, 512, 8}},
           .dtypes = {DType::kF32}};
  for (size_t rule = 0; rule < Rules().size(); ++rule) {
    c.shapes.push_back({3, 40, static_cast<int64_t>(rule)});
  }
  c.setup = Setup;
  c.steps = {{.name = "PolicyLoss",
              .touches = {"log_probs", "old_log_probs", "reference_log_probs", "advantages", "weights", "sequences"},
              .run = RunPolicyLoss,
              .flops = [](const Shape&) { return 0.0; }}};
  c.SetFormula(PolicyLossFormula{});
  return c;
}

}  // namespace conclave::core::test
