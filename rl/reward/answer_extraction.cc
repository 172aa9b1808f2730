// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/answer_extraction.h"

#include <algorithm>
#include <vector>

namespace conclave::rl {
namespace {

constexpr std::string_view kThink = "<think>", kEndThink = "</think>", kAnswer = "<answer>", kEndAnswer = "</answer>";
constexpr size_t kNone = std::string_view::npos;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == kNone) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") + 1 - begin);
}

// The parts outside of thoughts, in order.
std::vector<std::string_view> SaidParts(std::string_view text) {
  const size_t open = text.find(kThink), close = text.find(kEndThink);
  if (close != kNone && (open == kNone || close < open)) text.remove_prefix(close + kEndThink.size());
  std::vector<std::string_view> parts;
  while (true) {
    const size_t begin = text.find(kThink);
    parts.push_back(text.substr(0, begin));
    if (begin == kNone) return parts;
    const size_t end = text.find(kEndThink, begin);
    if (end == kNone) return parts;
    text.remove_prefix(end + kEndThink.size());
  }
}

std::optional<std::string_view> LastTagged(std::string_view text) {
  const size_t end = text.rfind(kEndAnswer);
  if (end == kNone) return std::nullopt;
  const size_t begin = text.rfind(kAnswer, end);
  if (begin == kNone) return std::nullopt;
  return text.substr(begin + kAnswer.size(), end - begin - kAnswer.size());
}

// The inside of the braces that `text` begins with, by counting; \{ and \} are signs, not braces.
std::optional<std::string_view> InBraces(std::string_view text) {
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return text.substr(1, i - 1);
    }
  }
  return std::nullopt;
}

std::optional<std::string_view> LastBoxed(std::string_view text) {
  constexpr std::string_view kBoxed = "\\boxed{";
  const size_t at = text.rfind(kBoxed);
  if (at == kNone) return std::nullopt;
  return InBraces(text.substr(at + kBoxed.size() - 1));
}

size_t CountDigits(std::string_view text) { return std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin(); }

// Length of the number that `text` begins with: 12, 1,000.5, .5
size_t DecimalLength(std::string_view text) {
  size_t length = CountDigits(text);
  if (length >= 1 && length <= 3) {
    while (text.substr(length).starts_with(",") && CountDigits(text.substr(length + 1)) == 3) length += 4;
  }
  if (text.substr(length).starts_with(".")) {
    const size_t decimals = CountDigits(text.substr(length + 1));
    if (decimals > 0) length += 1 + decimals;
  }
  return length;
}

// A decimal, or a fraction of two.
std::optional<std::string_view> LastNumber(std::string_view text) {
  std::optional<std::string_view> last;
  for (size_t i = 0; i < text.size();) {
    size_t length = DecimalLength(text.substr(i));
    if (length == 0) {
      ++i;
      continue;
    }
    if (text.substr(i + length).starts_with("/")) {
      const size_t under = DecimalLength(text.substr(i + length + 1));
      if (under > 0) length += 1 + under;
    }
    // A minus behind a number or a letter subtracts.
    const bool negative =
        i > 0 && text[i - 1] == '-' && (i == 1 || std::string_view(" \t\n($=:*").find(text[i - 2]) != kNone);
    last = text.substr(i - negative, length + negative);
    i += length;
  }
  return last;
}

template <class Find>
std::optional<std::string_view> LastOf(const std::vector<std::string_view>& parts, Find find) {
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (const std::optional<std::string_view> found = find(*part)) return Trimmed(*found);
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string_view> ExtractAnswer(std::string_view text, AnswerFallback fallback) {
  const std::vector<std::string_view> parts = SaidParts(text);
  if (const auto tagged = LastOf(parts, LastTagged)) {
    const std::optional<std::string_view> boxed = LastBoxed(*tagged);
    return boxed ? Trimmed(*boxed) : *tagged;
  }
  if (const auto boxed = LastOf(parts, LastBoxed)) return boxed;
  return fallback == AnswerFallback::kLastNumber ? LastOf(parts, LastNumber) : std::nullopt;
}

std::string_view ExtractThoughts(std::string_view text) {
  const size_t open = text.find(kThink), close = text.find(kEndThink);
  if (open == kNone && close == kNone) return text;
  const size_t begin = open == kNone || close < open ? 0 : open + kThink.size();
  const size_t end = text.find(kEndThink, begin);
  return text.substr(begin, end == kNone ? kNone : end - begin);
}

}  // namespace conclave::rl
