// SPDX-License-Identifier: Apache-2.0
#include "data/pattern_syntax.h"

#include "absl/strings/str_format.h"

namespace conclave::data {
namespace {

constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kWordCharacters = R"(\p{L}\p{M}\p{Nd}\p{Pc})";

// What the escape \c stands for, without brackets; "" if PCRE2 means the same by it.
std::string_view ClassOf(char c) {
  if (c == 's' || c == 'S') return kSpaces;
  if (c == 'w' || c == 'W') return kWordCharacters;
  return "";
}

bool IsNegated(char c) { return c == 'S' || c == 'W'; }

}  // namespace

absl::StatusOr<std::string> ToPcre2(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      const std::string_view members = ClassOf(escaped);
      if (members.empty() || (in_class && IsNegated(escaped))) {
        out.append({c, escaped});
      } else if (in_class) {
        out.append(members);
      } else {
        out.append(IsNegated(escaped) ? "[^" : "[").append(members).append("]");
      }
      continue;
    }
    if (in_class && c == '&' && pattern.substr(i).starts_with("&&")) {
      return absl::UnimplementedError(
          absl::StrFormat("the pattern %s intersects classes (&&), which is not supported", pattern));
    }
    if (c == '[' && !in_class) {
      in_class = true;
      // A bracket right behind the opening one, or behind its ^, is a plain character.
      const size_t first = i + 1 + pattern.substr(i + 1).starts_with("^");
      const bool plain_bracket = pattern.substr(first).starts_with("]");
      out.append(pattern.substr(i, first - i + plain_bracket));
      i = first - 1 + plain_bracket;
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string LiteralPattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("\\^$.[]|()?*+{}#- \t\n\r\f\v").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

}  // namespace conclave::data
