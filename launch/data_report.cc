// SPDX-License-Identifier: Apache-2.0
#include "launch/data_report.h"

#include "absl/strings/str_format.h"

#include "launch/banner.h"

namespace conclave::launch {

void DataReport::Source(std::string_view key, std::string_view name) {
  PrintLine(absl::StrFormat("%s  %s", key, name));
}

void DataReport::Row(std::string_view name, std::string_view text) {
  PrintLine(absl::StrFormat("  %-15s %s", name, text));
}

void DataReport::Refuse(std::string_view why) {
  Row("NOT USABLE", why);
  good_ = false;
}

}  // namespace conclave::launch
