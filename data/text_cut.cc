// SPDX-License-Identifier: Apache-2.0
#include "data/text_cut.h"

#include <algorithm>

namespace conclave::data {
namespace {

constexpr size_t kLeast = size_t{1} << 20, kAlsoAtBlanks = size_t{4} << 20, kMost = size_t{8} << 20;

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Both look at most two bytes back and one ahead.
bool CutsBehindNewline(std::string_view text, size_t at) {
  return text[at - 1] == '\n' && !IsSpace(text[at - 2]) && IsLetter(text[at]);
}
bool CutsBeforeBlank(std::string_view text, size_t at) {
  return text[at] == ' ' && !IsSpace(text[at - 1]) && IsLetter(text[at + 1]);
}

size_t LastWholeCharacter(std::string_view text, size_t at) {
  size_t cut = at;
  while (at - cut < 4 && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  return at - cut < 4 ? cut : at;  // no UTF-8: anywhere
}

}  // namespace

size_t FirstPiece(std::string_view text, Rest rest) {
  for (size_t at = kLeast; at + 1 < text.size() && at < kMost; ++at) {
    if (CutsBehindNewline(text, at) || (at >= kAlsoAtBlanks && CutsBeforeBlank(text, at))) return at;
  }
  if (text.size() > kMost) return LastWholeCharacter(text, kMost);
  return rest == Rest::kNone ? text.size() : 0;
}

}  // namespace conclave::data
