// SPDX-License-Identifier: Apache-2.0
// UTF-8 as RFC 3629 defines it: overlong forms, surrogates and what lies beyond U+10FFFF are not part of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::core {

// What stands at the front of some bytes, which are not empty (Unicode 15, table 3-7).
struct Utf8Front {
  enum Kind { kWhole, kUnfinished, kBroken } kind;
  size_t length;       // kBroken: bytes that one U+FFFD stands for
  char32_t character;  // kWhole
};
Utf8Front ClassifyFront(std::string_view bytes);

// Length of the character that `text` starts with; 0 if it starts with none.
size_t Utf8Length(std::string_view text);

// Appends the character of a code point up to 0x10FFFF that is no surrogate.
void AppendUtf8(uint32_t code_point, std::string& text);

}  // namespace conclave::core
