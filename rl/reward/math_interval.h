// SPDX-License-Identifier: Apache-2.0
// Intervals, written with brackets or as inequalities of one variable: x > 2 is (2, infinity).
#pragma once

#include <functional>
#include <optional>

#include "rl/reward/math_expression.h"
#include "rl/reward/math_numeric.h"

namespace conclave::rl {

struct Interval {
  std::optional<MathPart> low, high;  // nothing: infinite
  bool low_closed = false, high_closed = false;
  uint64_t symbol = 0;  // of the variable, 0 in brackets
};

// 1 for infinity, -1 for minus infinity, else 0.
int InfinityOf(MathPart part);

// Nothing if the part is neither.
std::optional<Interval> IntervalOf(MathPart part);

Comparison CompareIntervals(const Interval& expected, const Interval& answer,
                            const std::function<Comparison(MathPart expected, MathPart answer)>& compare);

}  // namespace conclave::rl
