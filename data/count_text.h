// SPDX-License-Identifier: Apache-2.0
// Counts for people: "1 document", "4,358 documents".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace conclave::data {

inline std::string Count(int64_t count, std::string_view noun) {
  const std::string digits = absl::StrFormat("%d", count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text.append(" ").append(noun).append(count == 1 ? "" : "s");
}

}  // namespace conclave::data
