// SPDX-License-Identifier: Apache-2.0
// How far computed values are from expected ones: the largest difference, and its share of the largest magnitude.
#pragma once

#include <span>

namespace conclave::launch {

struct ValueDifference {
  double largest = 0;
  double relative = 0;  // infinite if all that was expected is 0 and something else came
};

// NaN on either side is NaN in the result. Equally many of both.
ValueDifference DifferenceOf(std::span<const float> ours, std::span<const float> theirs);

// difference / magnitude; 0 / 0 is 0.
double RatioOf(double difference, double magnitude);

}  // namespace conclave::launch
