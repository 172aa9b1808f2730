// SPDX-License-Identifier: Apache-2.0
// Rounding into the integer sums. Every scaling is by a power of two, so each step except the named rounding is exact.
#include "core/base/fixed_sum.h"

#include <emmintrin.h>

#include <limits>

#include "core/base/check.h"

namespace conclave::core {

int64_t LossToFixed(double loss) {
  const double scaled = loss * (1 / kLossUnit);
  if (!(scaled > -0x1p62 && scaled < 0x1p62)) return std::numeric_limits<int64_t>::max();
  return _mm_cvtsd_si64(_mm_set_sd(scaled));  // nearest-even, unlike a cast
}

void AddToNormLimbs(double value, int64_t limbs[kNormLimbs]) {
  CHECK(value >= 0 && value < 0x1p78);
  const int64_t high = static_cast<int64_t>(value * 0x1p-16);
  value -= static_cast<double>(high) * 0x1p16;
  const int64_t middle = static_cast<int64_t>(value * 0x1p24);
  value -= static_cast<double>(middle) * 0x1p-24;
  limbs[0] += static_cast<int64_t>(value * 0x1p64);
  limbs[1] += middle;
  limbs[2] += high;
}

double NormLimbsToDouble(const int64_t limbs[kNormLimbs]) {
  // Carries first, so that the lower limbs are small fractions of the one above and the value depends on their sum
  // alone.
  constexpr int64_t kLimb = int64_t{1} << 40;
  const int64_t middle = limbs[1] + (limbs[0] >> 40);
  const int64_t high = limbs[2] + (middle >> 40);
  const double low = static_cast<double>(limbs[0] & (kLimb - 1)) * 0x1p-64;
  return static_cast<double>(high) * 0x1p16 + (static_cast<double>(middle & (kLimb - 1)) * 0x1p-24 + low);
}

}  // namespace conclave::core
