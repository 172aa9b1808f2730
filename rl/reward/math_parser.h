// SPDX-License-Identifier: Apache-2.0
// Tokens to a tree by recursive descent, bounded in length and depth. Juxtaposition is a product, but of two numbers
// only a mixed number ("1 4/5") is read; what could be meant in two ways is refused rather than guessed.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"

#include "rl/reward/math_expression.h"
#include "rl/reward/math_token.h"

namespace conclave::rl {

inline constexpr size_t kMaxAnswerBytes = 1000;
inline constexpr int kMaxAnswerDepth = 40;

// `source` outlives the tree. The error says what is no mathematics, as the end of a sentence about the answer.
absl::StatusOr<MathExpression> ParseMath(std::string_view source, CommaReading commas);

}  // namespace conclave::rl
