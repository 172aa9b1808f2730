// SPDX-License-Identifier: Apache-2.0
// Equality of closed forms that are not algebraic (roots, logarithms, trigonometric functions), by evaluation to 80
// digits; where variables occur, at points of either sign and off the real line. What differs beyond the rounding error
// is different; what agrees in at least 50 digits is equal; what lies between is undecided.
#pragma once

#include "rl/reward/math_expression.h"

namespace conclave::rl {

enum class Comparison { kEqual, kDifferent, kUndecided };

Comparison CompareNumerically(MathPart a, MathPart b);

// Whether a_left - a_right = c (b_left - b_right) with a constant c that is not zero.
Comparison CompareEquationsNumerically(MathPart a_left, MathPart a_right, MathPart b_left, MathPart b_right);

}  // namespace conclave::rl
