// SPDX-License-Identifier: Apache-2.0
// Numbers go through std::to_chars and std::from_chars: no locale, no libm, exact round trips.
#include "core/config/value_text.h"

#include <charconv>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

// True if no YAML reader takes the text for anything but text: a word of harmless characters that is no number, no
// truth value of YAML 1.1 and no null.
bool IsPlainText(const std::string& text) {
  if (text.empty() || (!absl::ascii_isalpha(text[0]) && text[0] != '/' && text[0] != '_')) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && std::string_view("_/.-").find(c) == std::string_view::npos) return false;
  }
  const std::string lower = absl::AsciiStrToLower(text);
  for (const char* word : {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}) {
    if (lower == word) return false;
  }
  return true;
}

bool IsDigits(std::string_view text) {
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  return !text.empty();
}

}  // namespace

std::string ValueText(bool value) { return value ? "true" : "false"; }

std::string ValueText(int64_t value) { return absl::StrFormat("%d", value); }

std::string ValueText(double value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  std::string text(buffer, result.ptr);
  if (text.find('.') != std::string::npos) return text;
  const size_t exponent = text.find('e');
  return text.insert(exponent == std::string::npos ? text.size() : exponent, ".0");
}

std::string ValueText(const std::string& value) {
  if (IsPlainText(value)) return value;
  std::string text = "\"";
  for (const char c : value) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      text += absl::StrFormat("\\x%02x", byte);
    } else {
      text += c;
    }
  }
  return text + "\"";
}

const char* ParseValue(std::string_view text, bool& value) {
  if (text != "true" && text != "false") return "is neither true nor false";
  value = text == "true";
  return nullptr;
}

const char* ParseValue(std::string_view text, int64_t& value) {
  const bool sign = text.starts_with('-') || text.starts_with('+');
  const std::string_view digits = text.substr(sign);
  if (!IsDigits(digits)) return "is not a whole number";
  // 010 is 8 in YAML 1.1 and 10 in YAML 1.2.
  if (digits.size() > 1 && digits[0] == '0') return "is not a whole number: write it without the leading 0";
  const std::string_view number = text.starts_with('+') ? digits : text;
  const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
  return result.ec == std::errc() ? nullptr : "does not fit into 64 bits";
}

const char* ParseValue(std::string_view text, double& value) {
  const bool sign = text.starts_with('-') || text.starts_with('+');
  const std::string_view digits = text.substr(sign);
  // from_chars also knows inf and nan, which no option accepts.
  if (digits.empty() || !(IsDigits(digits.substr(0, 1)) || digits[0] == '.')) return "is not a number";
  const std::string_view number = text.starts_with('+') ? digits : text;
  double parsed = 0;
  const auto result = std::from_chars(number.data(), number.data() + number.size(), parsed);
  if (result.ec == std::errc::result_out_of_range) return "is too large or too small for a double";
  if (result.ec != std::errc() || result.ptr != number.data() + number.size()) return "is not a number";
  value = parsed;
  return nullptr;
}

}  // namespace conclave::core
