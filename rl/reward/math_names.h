// SPDX-License-Identifier: Apache-2.0
// What words, commands and signs of a written answer mean: the tables of math_token.cc and math_units.cc.
#pragma once

#include <optional>
#include <string_view>

#include "rl/reward/math_token.h"

namespace conclave::rl {

struct MathName {
  std::string_view written;
  TokenKind kind;
  std::string_view text;
};

// A LaTeX command without its backslash.
const MathName* FindCommand(std::string_view name);
// A command that only changes the looks.
bool IsLooks(std::string_view command);
// A command whose argument is text or letters of another font: \text, \mathrm.
bool IsFont(std::string_view command);
// A word of plain text: sqrt, sin, pi, and, infinity.
const MathName* FindWord(std::string_view word);
// The sign that UTF-8 bytes begin with, or null.
const MathName* FindSign(std::string_view bytes);

}  // namespace conclave::rl
