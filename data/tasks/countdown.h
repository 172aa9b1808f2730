// SPDX-License-Identifier: Apache-2.0
// Countdown has many right answers, so it comes with a verifier: whether an expression uses exactly the numbers of the
// prompt and gives its target, in exact fractions. When in doubt the answer is wrong.
#pragma once

#include <string_view>

namespace conclave::data {

// The prompt's whole numbers are those to use, each once, and last the target. The answer is an expression of them with
// + - * / and brackets, as "(8-3)*5" or "(8-3)*5=25".
bool CheckCountdown(std::string_view prompt, std::string_view answer);

}  // namespace conclave::data
