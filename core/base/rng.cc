// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 as in "Parallel Random Numbers: As Easy as 1, 2, 3" (Salmon, Moraes, Dror, Shaw, 2011), and what is
// drawn from it.
#include "core/base/rng.h"

#include <cmath>

#include "core/base/check.h"
#include "core/base/exact_math.h"

namespace conclave::core {
namespace {

constexpr uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
constexpr uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }
constexpr uint64_t Join(uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; }

}  // namespace

std::array<uint32_t, 4> Philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  std::array<uint32_t, 4> c = {Low(counter_low), High(counter_low), Low(counter_high), High(counter_high)};
  uint32_t key0 = Low(key), key1 = High(key);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    c = {High(b) ^ c[1] ^ key0, Low(b), High(a) ^ c[3] ^ key1, Low(a)};
    key0 += 0x9E3779B9;  // golden ratio
    key1 += 0xBB67AE85;  // sqrt(3) - 1
  }
  return c;
}

uint64_t RandomKey(uint64_t seed, RandomPurpose purpose, uint64_t id) {
  const std::array<uint32_t, 4> words = Philox(seed, id, static_cast<uint64_t>(purpose));
  return Join(words[0], words[1]);
}

float StandardNormal(uint64_t key, uint64_t index) {
  const std::array<uint32_t, 4> words = Philox(key, index, 0);
  const double radius_draw = static_cast<double>((Join(words[0], words[1]) >> 11) + 1) * 0x1p-53;  // in (0, 1]
  const double turn = static_cast<double>(Join(words[2], words[3]) >> 11) * 0x1p-53;               // in [0, 1)
  return static_cast<float>(std::sqrt(-2 * ExactLog(radius_draw)) * ExactCos(6.283185307179586 * turn));
}

KeyedPermutation::KeyedPermutation(uint64_t key, uint64_t size) : key_(key), size_(size), half_bits_(0) {
  while (half_bits_ < 32 && size > uint64_t{1} << (2 * half_bits_)) ++half_bits_;
}

uint64_t KeyedPermutation::operator()(uint64_t index) const {
  CHECK(index < size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t value = index;
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t mixed = left ^ (Philox(key_, right, round)[0] & mask);
      left = right;
      right = mixed;
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return value;
}

}  // namespace conclave::core
