// SPDX-License-Identifier: Apache-2.0
// Text as soon as it is whole. What is broken becomes one U+FFFD per maximal subpart, as Unicode 3.9 recommends and
// Python and Rust do, so the pieces together equal decoding all bytes at once.
#include <string_view>

#include "data/tokenizer.h"

namespace conclave::data {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What stands at the front of some bytes.
struct Utf8Front {
  enum Kind { kWhole, kUnfinished, kBroken } kind;
  size_t length;  // kBroken: bytes that one U+FFFD stands for
};

// Length of the character that `lead` starts and the range of its second byte (Unicode 15, table 3-7); length 0: none.
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

Utf8Front ClassifyFront(std::string_view bytes) {
  const Utf8Lead lead = ClassifyLead(static_cast<unsigned char>(bytes[0]));
  if (lead.length == 0) return {Utf8Front::kBroken, 1};
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {Utf8Front::kUnfinished, i};
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) return {Utf8Front::kBroken, i};
  }
  return {Utf8Front::kWhole, lead.length};
}

}  // namespace

std::string StreamDecoder::Push(int32_t id) {
  if (special_ == SpecialTokens::kDrop && tokenizer_.IsSpecial(id)) return "";
  pending_ += tokenizer_.TokenText(id);
  std::string text;
  size_t begin = 0;
  while (begin < pending_.size()) {
    const std::string_view rest = std::string_view(pending_).substr(begin);
    const Utf8Front front = ClassifyFront(rest);
    if (front.kind == Utf8Front::kUnfinished) break;
    text += front.kind == Utf8Front::kWhole ? rest.substr(0, front.length) : kReplacement;
    begin += front.length;
  }
  pending_.erase(0, begin);
  return text;
}

std::string StreamDecoder::Finish() {
  // Whatever still waits is the start of one character.
  std::string text(pending_.empty() ? std::string_view() : kReplacement);
  pending_.clear();
  return text;
}

}  // namespace conclave::data
