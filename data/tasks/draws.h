// SPDX-License-Identifier: Apache-2.0
// The random choices behind one problem: whole numbers from Philox, in the order in which they are asked for. A pure
// function of the problem's number, the same on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/base/check.h"
#include "core/base/rng.h"

namespace conclave::data {

// 10^exponent, for 0 to 18.
constexpr int64_t PowerOfTen(int64_t exponent) {
  int64_t power = 1;
  for (; exponent > 0; --exponent) power *= 10;
  return power;
}

class Draws {
 public:
  explicit Draws(uint64_t number) : number_(number) {}

  // Uniform in [least, most].
  int64_t Uniform(int64_t least, int64_t most) {
    CHECK_LE(least, most);
    const std::array<uint32_t, 4> words =
        core::Philox(core::RandomKey(0, core::RandomPurpose::kTask, 0), number_, i_++);
    const uint64_t word = uint64_t{words[1]} << 32 | words[0];
    const auto count = static_cast<unsigned __int128>(static_cast<uint64_t>(most - least) + 1);
    return least + static_cast<int64_t>(word * count >> 64);
  }

  // Of exactly so many digits; one digit may be 0.
  int64_t Digits(int64_t digits) { return Uniform(digits == 1 ? 0 : PowerOfTen(digits - 1), PowerOfTen(digits) - 1); }

  template <class T>
  const T& OneOf(std::span<const T> choices) {
    return choices[static_cast<size_t>(Uniform(0, static_cast<int64_t>(choices.size()) - 1))];
  }

 private:
  uint64_t number_, i_ = 0;
};

}  // namespace conclave::data
