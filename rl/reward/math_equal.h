// SPDX-License-Identifier: Apache-2.0
// Whether an answer is the expected one. The relation is not symmetric: the expected answer sets the form. Lists are
// sets, tuples are ordered, brackets of intervals count, units must not contradict each other, and an equation is
// never reduced to a truth value. To accept a wrong answer is worse than to reject a right one, so whatever cannot be
// decided is not equal.
#pragma once

#include <string_view>

#include "rl/reward/math_expression.h"
#include "rl/reward/math_numeric.h"

namespace conclave::rl {

Comparison CompareMath(const MathExpression& expected, const MathExpression& answer);

// Texts as they are compared: without case, spaces, fonts, or the brackets of a choice such as (C).
bool IsSameText(std::string_view expected, std::string_view answer);

}  // namespace conclave::rl
