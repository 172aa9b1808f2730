// SPDX-License-Identifier: Apache-2.0
#include "launch/value_difference.h"

#include <cmath>
#include <limits>

#include "core/base/check.h"

namespace conclave::launch {
namespace {

double LargerOrNan(double a, double b) { return a >= b ? a : std::isnan(a) ? a : b; }

}  // namespace

double RatioOf(double difference, double magnitude) {
  if (magnitude > 0) return difference / magnitude;
  return difference > 0 ? std::numeric_limits<double>::infinity() : difference;  // NaN stays
}

ValueDifference DifferenceOf(std::span<const float> ours, std::span<const float> theirs) {
  CHECK_EQ(ours.size(), theirs.size());
  ValueDifference out;
  double magnitude = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
    out.largest = LargerOrNan(difference, out.largest);
    magnitude = LargerOrNan(std::fabs(static_cast<double>(theirs[i])), magnitude);
  }
  out.relative = RatioOf(out.largest, magnitude);
  return out;
}

}  // namespace conclave::launch
