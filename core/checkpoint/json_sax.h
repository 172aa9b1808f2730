// SPDX-License-Identifier: Apache-2.0
// Reading foreign JSON as a stream of events: no tree is built, so neither depth nor size of the text decides how much
// memory it takes, and duplicate keys are seen. A reader derives from JsonSax and shadows the events it accepts; every
// other event ends the parse.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace conclave::core {

// Foreign text in a message: quoted, escaped, cut.
inline std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 120;
  const std::string shown(text.substr(0, kLongest));
  return absl::StrCat("'", absl::CHexEscape(shown), text.size() > kLongest ? "...'" : "'");
}

struct JsonSax {
  std::string error;  // the rule that was broken first

  bool Refuse(std::string rule) {
    if (error.empty()) error = std::move(rule);
    return false;
  }

  bool null() { return Refuse("null is not allowed here"); }
  bool boolean(bool) { return Refuse("true and false are not allowed here"); }
  bool number_integer(int64_t) { return Refuse("a negative number is not allowed here"); }
  bool number_unsigned(uint64_t) { return Refuse("a number is not allowed here"); }
  bool number_float(double, const std::string& text) {
    return Refuse(
        absl::StrCat("a number must be an integer below 2^63 without fraction or exponent, not ", Quoted(text)));
  }
  bool string(std::string& text) { return Refuse(absl::StrCat("text is not allowed here: ", Quoted(text))); }
  bool binary(nlohmann::json::binary_t&) { return Refuse("binary values are not allowed here"); }
  bool start_object(size_t) { return Refuse("an object is not allowed here"); }
  bool key(std::string&) { return true; }
  bool end_object() { return true; }
  bool start_array(size_t) { return Refuse("an array is not allowed here"); }
  bool end_array() { return true; }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& problem) {
    std::string_view what = problem.what();  // "[json.exception...] reason", and what was read last, which may be long
    what.remove_prefix(std::min(what.find("] ") + 2, what.size()));
    return Refuse(absl::StrCat("not valid JSON at byte ", position, ": ", Quoted(what)));
  }
};

// Sends the events of `text`, one JSON object, to `reader`. The status says which rule was broken, not where the text
// is from.
template <class Reader>
absl::Status ParseJson(std::string_view text, Reader& reader) {
  if (text.empty() || text.front() != '{') return absl::InvalidArgumentError("it does not begin with '{'");
  // The parser would take a zero byte for the end of the text.
  if (std::memchr(text.data(), 0, text.size()) != nullptr) return absl::InvalidArgumentError("it contains a zero byte");
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) return absl::OkStatus();
  return absl::InvalidArgumentError(reader.error.empty() ? "not valid JSON" : reader.error);
}

}  // namespace conclave::core
