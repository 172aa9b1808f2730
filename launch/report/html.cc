// SPDX-License-Identifier: Apache-2.0
#include "launch/report/html.h"

#include <cstdint>

#include "absl/strings/str_format.h"

#include "core/base/utf8.h"

namespace conclave::launch {
namespace {

constexpr char32_t kReplacement = 0xFFFD, kPictures = 0x2400, kPictureOfDelete = 0x2421;

// What stands for a character in a page; 0: itself.
char32_t Substitute(char32_t c) {
  if (c == '\n' || c == '\t') return 0;
  if (c < 0x20) return kPictures + c;
  if (c == 0x7F) return kPictureOfDelete;
  const bool not_a_character = (c >= 0xFDD0 && c <= 0xFDEF) || (c & 0xFFFE) == 0xFFFE;
  return (c >= 0x80 && c < 0xA0) || not_a_character ? kReplacement : 0;
}

const char* Entity(char32_t c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return nullptr;
  }
}

// `at`, or where the character that it is in the middle of begins.
size_t BeforeCharacter(std::string_view text, size_t at) {
  const auto continues = [&text](size_t i) { return (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80; };
  size_t begin = at;
  while (begin > 0 && begin + 3 > at && begin < text.size() && continues(begin)) --begin;
  return begin;
}

}  // namespace

std::string Escaped(std::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const core::Utf8Front front = core::ClassifyFront(text);
    const bool whole = front.kind == core::Utf8Front::kWhole;
    const char32_t substitute = whole ? Substitute(front.character) : kReplacement;
    if (substitute != 0) {
      core::AppendUtf8(substitute, escaped);
    } else if (const char* entity = Entity(front.character); entity != nullptr) {
      escaped += entity;
    } else {
      escaped += text.substr(0, front.length);
    }
    // What ends in the middle of a character ends the text.
    text.remove_prefix(front.kind == core::Utf8Front::kUnfinished ? text.size() : front.length);
  }
  return escaped;
}

std::string Shortened(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return std::string(text);
  const size_t front = BeforeCharacter(text, bytes - bytes / 3);
  const size_t end = BeforeCharacter(text, text.size() - bytes / 3);
  return absl::StrFormat("%s ... (%d bytes) ... %s", text.substr(0, front), end - front, text.substr(end));
}

}  // namespace conclave::launch
