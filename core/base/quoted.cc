// SPDX-License-Identifier: Apache-2.0
#include "core/base/quoted.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace conclave::core {

std::string Quoted(std::string_view text) {
  constexpr size_t kLongest = 120;
  const std::string shown(text.substr(0, kLongest));
  return absl::StrCat("'", absl::CHexEscape(shown), text.size() > kLongest ? "...'" : "'");
}

}  // namespace conclave::core
