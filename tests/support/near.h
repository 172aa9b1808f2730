// SPDX-License-Identifier: Apache-2.0
// How far a computed array may be from the true one, and where it is farthest. The error allowed for an element is
// relative * |true| + of_rms * (root mean square of the true array): the second part covers sums that cancel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "absl/strings/str_format.h"

#include "core/tensor/dtype.h"

namespace conclave::core::test {

struct Tolerance {
  double relative = 0, of_rms = 0;
  const char* reason = "exact";  // why this much: printed with a failure
};

// The tolerance of the computation plus half an ulp of the dtype in which the result is stored.
inline Tolerance Near(DType stored, double relative, double of_rms, const char* reason) {
  const double half_ulp = stored == DType::kBf16 ? 0x1p-7 / 2 : stored == DType::kF32 ? 0x1p-23 / 2 : 0;
  return {relative + half_ulp * (1 + relative), of_rms, reason};
}

// Empty if all elements are near, else one line about the worst. NaN is near NaN only, infinity near itself only; a
// true value of NaN stands for an element that the operation must not touch (outputs start as NaN).
inline std::string Difference(std::span<const double> got, std::span<const double> want, const Tolerance& tolerance) {
  if (got.size() != want.size()) return absl::StrFormat("%d elements instead of %d", got.size(), want.size());
  double squares = 0;
  size_t finite = 0;
  for (double x : want) {
    if (!std::isfinite(x)) continue;
    squares += x * x;
    ++finite;
  }
  // At least 1e-9, because the truth has rounding errors of its own, where everything cancels.
  const double rms = std::max(1e-9, finite ? std::sqrt(squares / static_cast<double>(finite)) : 0);
  double worst = 1;  // error / allowed
  std::string message;
  for (size_t i = 0; i < want.size(); ++i) {
    if (got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i]))) continue;
    const double error = std::fabs(got[i] - want[i]);
    const double allowed = tolerance.relative * std::fabs(want[i]) + tolerance.of_rms * rms;
    const double ratio = std::isfinite(error) && allowed > 0 ? error / allowed : HUGE_VAL;
    if (!(ratio > worst)) continue;
    worst = ratio;
    message = absl::StrFormat("element %d is %.9g instead of %.9g: %.3g times the error allowed (%s)", i, got[i],
                              want[i], ratio, tolerance.reason);
  }
  return message;
}

}  // namespace conclave::core::test
