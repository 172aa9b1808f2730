// SPDX-License-Identifier: Apache-2.0
// Properties and normal forms come from utf8proc. Most text is in NFC already and seen to be so quickly: only lines
// with a character that could change go through the library.
#include "data/unicode.h"

#include <utf8proc.h>

#include <cstdlib>

#include "core/base/check.h"
#include "core/base/utf8.h"

namespace conclave::data {
namespace {

using core::ClassifyFront;
using core::Utf8Front;

// The first and the last character of text that is valid UTF-8 and not empty.
std::string_view FirstCharacter(std::string_view text) { return text.substr(0, ClassifyFront(text).length); }
std::string_view LastCharacter(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  return text.substr(begin);
}

// Characters that are in NFC whatever stands beside them, unless that is outside of these ranges: Latin, Greek and
// Cyrillic letters, kana, ideographs, hangul syllables. (Everything with a combining class, or that composes, lies
// elsewhere.)
bool IsSafelyComposed(char32_t c) {
  return c < 0x300 || (c >= 0x388 && c <= 0x482) || (c >= 0x48A && c <= 0x52F) || (c >= 0x2010 && c <= 0x2027) ||
         (c >= 0x3001 && c <= 0x3029) || (c >= 0x3041 && c <= 0x3096) || (c >= 0x30A1 && c <= 0x30FA) ||
         (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xAC00 && c <= 0xD7A3) || (c >= 0xFF01 && c <= 0xFF60);
}

bool IsSafelyComposed(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x80) {
      ++i;
      continue;
    }
    const Utf8Front front = ClassifyFront(text.substr(i, 4));
    if (!IsSafelyComposed(front.character)) return false;
    i += front.length;
  }
  return true;
}

int Options(Normalization form) {
  switch (form) {
    case Normalization::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case Normalization::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case Normalization::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case Normalization::kNfkd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

void AppendMapped(std::string_view text, int options, std::string& out) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &mapped, static_cast<utf8proc_option_t>(options));
  CHECK_GE(size, 0);
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
  std::free(mapped);
}

}  // namespace

size_t ValidUtf8Length(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Front front = ClassifyFront(text.substr(i, 4));
    if (front.kind != Utf8Front::kWhole) break;
    i += front.length;
  }
  return i;
}

bool IsWhiteSpace(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool IsWordCharacter(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return c == 0x200C || c == 0x200D;  // joiners
  }
}

size_t LeadingWhiteSpace(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const Utf8Front front = ClassifyFront(text.substr(length));
    if (!IsWhiteSpace(front.character)) break;
    length += front.length;
  }
  return length;
}

size_t TrailingWhiteSpace(std::string_view text) {
  size_t length = 0;
  while (length < text.size()) {
    const std::string_view last = LastCharacter(text.substr(0, text.size() - length));
    if (!IsWhiteSpace(ClassifyFront(last).character)) break;
    length += last.size();
  }
  return length;
}

bool StartsWithWordCharacter(std::string_view text) {
  return !text.empty() && IsWordCharacter(ClassifyFront(FirstCharacter(text)).character);
}

bool EndsWithWordCharacter(std::string_view text) {
  return !text.empty() && IsWordCharacter(ClassifyFront(LastCharacter(text)).character);
}

std::string Normalize(std::string_view text, Normalization form) {
  std::string out;
  out.reserve(text.size());
  // A line break neither composes nor lets marks pass: lines are independent of each other.
  for (size_t begin = 0; begin < text.size();) {
    const size_t line_break = text.find('\n', begin);
    const size_t end = line_break == std::string_view::npos ? text.size() : line_break + 1;
    const std::string_view line = text.substr(begin, end - begin);
    if (form == Normalization::kNfc && IsSafelyComposed(line)) {
      out.append(line);
    } else {
      AppendMapped(line, Options(form), out);
    }
    begin = end;
  }
  return out;
}

}  // namespace conclave::data
