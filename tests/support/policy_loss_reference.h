// SPDX-License-Identifier: Apache-2.0
// The policy losses as their papers write them, for T = double and T = std::complex<double>, whose imaginary part
// carries a derivative: what the kernel, its gradient and the numbers of other programs are compared with. Written
// apart from the kernel: sequence by sequence, with min, max and clamp instead of cases.
#pragma once

#include <algorithm>
#include <complex>
#include <cstdint>
#include <vector>

#include "core/device/kernels.h"
#include "tests/support/complex_step.h"

namespace conclave::core::test {

template <class T>
struct PolicyTokens {
  std::vector<T> log_probs;
  std::vector<double> old_log_probs, reference_log_probs, advantages, weights;
  std::vector<int64_t> sequences;  // -1 = none
};

template <class T>
const T& Smaller(const T& a, const T& b) {
  return Real(b) < Real(a) ? b : a;
}
template <class T>
const T& Larger(const T& a, const T& b) {
  return Real(b) > Real(a) ? b : a;
}

// The estimate of KL(policy || reference) from one sample of the policy, or with kWeightedK3 of the old one.
template <class T>
T KlEstimate(PolicyRule::Kl estimator, const T& log_prob, double old_log_prob, double reference) {
  using std::exp;
  const T d = T(reference) - log_prob;
  if (estimator == PolicyRule::Kl::kK1) return -d;
  if (estimator == PolicyRule::Kl::kK2) return T(0.5) * d * d;
  const T k3 = exp(d) - d - T(1);
  return estimator == PolicyRule::Kl::kWeightedK3 ? T(exp(log_prob - T(old_log_prob))) * k3 : k3;
}

// PPO's surrogate with the bound of Ye et al. (dual clip), or CISPO's (the ratio is a number, not a function).
template <class T>
T TokenLoss(const PolicyRule& rule, const T& ratio, double advantage, const T& log_prob) {
  if (rule.cap > 0) return T(-std::min(Real(ratio), rule.cap) * advantage) * log_prob;
  const T clamped = Smaller(Larger(ratio, T(1 - rule.clip_low)), T(1 + rule.clip_high));
  T surrogate = Smaller(ratio * T(advantage), clamped * T(advantage));
  if (rule.dual > 0 && advantage < 0) surrogate = Larger(surrogate, T(rule.dual * advantage));
  return -surrogate;
}

// Sum over tokens [begin, end) of weight x loss.
template <class T>
T PolicyLossReference(const PolicyRule& rule, const PolicyTokens<T>& tokens, int64_t begin, int64_t end) {
  using std::exp;
  T loss = 0;
  for (int64_t s = begin; s < end; ++s) {
    const auto i = static_cast<size_t>(s);
    if (tokens.sequences[i] < 0) continue;
    T log_ratio = tokens.log_probs[i] - T(tokens.old_log_probs[i]);
    if (rule.ratio == PolicyRule::Ratio::kSequence) {
      double count = 0;
      log_ratio = 0;
      for (int64_t u = begin; u < end; ++u) {
        const auto j = static_cast<size_t>(u);
        if (tokens.sequences[j] != tokens.sequences[i]) continue;
        log_ratio += tokens.log_probs[j] - T(tokens.old_log_probs[j]);
        count += 1;
      }
      log_ratio /= T(count);
    }
    T term = TokenLoss(rule, T(exp(log_ratio)), tokens.advantages[i], tokens.log_probs[i]);
    if (rule.kl != 0) {
      term += T(rule.kl) *
              KlEstimate(rule.estimator, tokens.log_probs[i], tokens.old_log_probs[i], tokens.reference_log_probs[i]);
    }
    loss += T(tokens.weights[i]) * term;
  }
  return loss;
}

}  // namespace conclave::core::test
