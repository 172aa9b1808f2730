// SPDX-License-Identifier: Apache-2.0
// Words behind a number. A unit says nothing of the value; a number word, such as "million", does.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace conclave::rl {

// The one spelling of a unit: "inches^2", "sq in" and "square inch" are "inch^2"; a plain "units" is "". Nothing if
// the words are no unit: there are more than three, or one of them changes the value.
std::optional<std::string> UnitOf(std::string_view words);

// True for letters that are a unit and not a product of variables: cm, kg, mph.
bool IsUnitSymbol(std::string_view letters);

// The number, in digits, that "million" and the like stand for; "" for other words.
std::string_view NumberOfWord(std::string_view word);

}  // namespace conclave::rl
