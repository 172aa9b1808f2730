// SPDX-License-Identifier: Apache-2.0
// log(sum of exp(logits)) over a vocabulary, walked once in fixed blocks: the head's loss and the sampler share it, so
// that a sampled token has the same log-probability in both, bit for bit. A block gives (m, s) = (max l, 16-lane sum of
// exp(l - m)); blocks join in order as m' = max(m, m_b), s' = s exp(m - m') + s_b exp(m_b - m').
#pragma once

#include <cstdint>

#include "core/base/exact_math.h"
#include "core/device/cpu/simd.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

// Logits per block: callers start a block at every multiple of it; only the last one may be shorter.
inline constexpr int64_t kVocabularyBlock = 768;

inline float ExpScalar(float x) {
  alignas(64) float lanes[kLanes];
  Store(lanes, Exp(Set(x)));
  return lanes[0];
}

// A NaN or an infinite logit makes Value() NaN; logits of -infinity count as probability 0.
struct LogSumExp {
  float max = -__builtin_inff();
  float sum = 0;  // of exp(logit - max)

  // How a block joined the others, for sums of more that go the same way: terms of the block are e^(logit - shift).
  struct Joined {
    float shift, before, block;  // factors of the sums before and of the block's
  };

  // The next block; 0 <= n <= kVocabularyBlock.
  Joined AddBlock(const float* logits, int64_t n) {
    const F32x16 nothing = Set(-__builtin_inff());
    const int64_t whole = n - n % kLanes;
    const int rest = static_cast<int>(n - whole);
    const F32x16 last = KeepLanes(LoadPart(logits + whole, rest), rest, nothing);
    F32x16 largest = nothing;
    for (int64_t i = 0; i < whole; i += kLanes) largest = Max(Load(logits + i), largest);
    const float block_max = Largest(Max(last, largest));
    // With -infinity in all places l - m would be NaN; any finite m gives the right sum, 0.
    const float finite = block_max == -__builtin_inff() ? 0.0f : block_max;
    const F32x16 shift = Set(finite);
    F32x16 lanes = Set(0.0f);
    for (int64_t i = 0; i < whole; i += kLanes) lanes = lanes + Exp(Load(logits + i) - shift);
    lanes = lanes + Exp(last - shift);
    Joined joined = Join(block_max, Sum(lanes));
    joined.shift = finite;
    return joined;
  }

  // max + log(sum), rounded once.
  float Value() const { return static_cast<float>(static_cast<double>(max) + ExactLog(static_cast<double>(sum))); }

 private:
  Joined Join(float block_max, float block_sum) {
    const float joined = block_max > max ? block_max : max;
    Joined factors = {.shift = 0, .before = 1, .block = 1};
    if (joined != -__builtin_inff()) factors = {0, ExpScalar(max - joined), ExpScalar(block_max - joined)};
    sum = sum * factors.before + block_sum * factors.block;
    max = joined;
    return factors;
  }
};

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
