// SPDX-License-Identifier: Apache-2.0
#include "core/base/quoted.h"

#include "absl/strings/escaping.h"

#include "core/base/utf8.h"

namespace conclave::core {
namespace {

constexpr size_t kLongest = 120;

// Beyond ASCII: controls (C1), marks that set the direction of what follows, separators of lines, what has no width.
bool IsHarmless(char32_t c) {
  const bool is_control = c < 0xA0, is_mark = (c >= 0x200B && c <= 0x200F) || (c >= 0x2060 && c <= 0x206F);
  return !is_control && !is_mark && !(c >= 0x2028 && c <= 0x202E) && c != 0xFEFF && c != 0x61C;
}

}  // namespace

std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Front front = ClassifyFront(text.substr(at));
    if (at + front.length > kLongest) break;
    const std::string part(text.substr(at, front.length));
    const bool stays = front.kind == Utf8Front::kWhole && part.size() > 1 && IsHarmless(front.character);
    quoted += stays ? part : absl::CHexEscape(part);
    at += front.length;
  }
  return quoted + (at < text.size() ? "...'" : "'");
}

}  // namespace conclave::core
