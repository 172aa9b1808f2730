// SPDX-License-Identifier: Apache-2.0
#include "core/base/utf8.h"

namespace conclave::core {

namespace {

// Length of the character that `lead` starts and the range of its second byte; length 0: none.
struct Utf8Lead {
  size_t length;
  unsigned char second_low = 0x80, second_high = 0xBF;
};

Utf8Lead ClassifyLead(unsigned char lead) {
  if (lead < 0x80) return {1};
  if (lead < 0xC2) return {0};
  if (lead < 0xE0) return {2};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead < 0xF0) return {3};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead < 0xF4) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

}  // namespace

Utf8Front ClassifyFront(std::string_view bytes) {
  const auto first = static_cast<unsigned char>(bytes[0]);
  const Utf8Lead lead = ClassifyLead(first);
  if (lead.length == 0) return {Utf8Front::kBroken, 1, 0};
  char32_t character = lead.length == 1 ? first : first & (0x7F >> lead.length);
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8Front::kUnfinished, i, 0};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Front::kBroken, i, 0};
    character = character << 6 | (byte & 0x3F);
  }
  return {Utf8Front::kWhole, lead.length, character};
}

size_t Utf8Length(std::string_view text) {
  if (text.empty()) return 0;
  const Utf8Front front = ClassifyFront(text);
  return front.kind == Utf8Front::kWhole ? front.length : 0;
}

void AppendUtf8(uint32_t code_point, std::string& text) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)); };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0 | (code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0 | (code_point >> 12));
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0 | (code_point >> 18));
    tail(12), tail(6), tail(0);
  }
}

}  // namespace conclave::core
