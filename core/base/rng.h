// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011) and a keyed permutation.
// A draw is a pure function of (key, counter): nothing to save, the same in every layout and thread count.
#pragma once

#include <array>
#include <cstdint>

namespace conclave::core {

// What a stream of draws is for; part of the key, so that streams never meet.
enum class RandomPurpose : uint32_t { kInit = 1, kDataOrder = 2, kSampling = 3, kSynthetic = 4, kTest = 5, kTask = 6 };

// Four independent uniform 32-bit words for (key, counter).
std::array<uint32_t, 4> Philox(uint64_t key, uint64_t counter_low, uint64_t counter_high);

// Mixes a seed, a purpose and an id (a tensor, an epoch, a sample) into one key.
uint64_t RandomKey(uint64_t seed, RandomPurpose purpose, uint64_t id);

// Uniform in [0, 1) with 24 bits.
inline float UniformFloat(uint32_t bits) { return static_cast<float>(bits >> 8) * 0x1p-24f; }

// Standard normal number `index` of stream `key` (Box-Muller on own log and cos: no libm, see exact_math.h).
float StandardNormal(uint64_t key, uint64_t index);

// A bijection of [0, size): where element `index` goes. A 6-round Feistel network over the next power of four, walked
// until the value falls inside the range.
class KeyedPermutation {
 public:
  KeyedPermutation(uint64_t key, uint64_t size);
  uint64_t operator()(uint64_t index) const;

 private:
  uint64_t key_, size_;
  int half_bits_;
};

}  // namespace conclave::core
