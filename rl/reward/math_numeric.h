// SPDX-License-Identifier: Apache-2.0
// Equality of closed forms that are not algebraic (roots, logarithms, trigonometric functions), by evaluation to 80
// digits; where variables occur, at points of either sign and off the real line. What differs beyond the rounding error
// is different; what agrees in at least 50 digits is equal; what lies between is undecided.
#pragma once

#include <cstdint>

#include "rl/reward/math_expression.h"

namespace conclave::rl {

enum class Comparison { kEqual, kDifferent, kUndecided };

// What a comparison may still cost, in about microseconds; it is spent by the expression alone, so the outcome does not
// depend on the machine. What would take more is undecided.
struct WorkBudget {
  int64_t left = 50'000;
};

Comparison CompareNumerically(MathPart a, MathPart b, WorkBudget& budget);

// Whether a_left - a_right = c (b_left - b_right) with a constant c that is not zero.
Comparison CompareEquationsNumerically(MathPart a_left, MathPart a_right, MathPart b_left, MathPart b_right,
                                       WorkBudget& budget);

}  // namespace conclave::rl
