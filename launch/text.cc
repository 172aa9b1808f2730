// SPDX-License-Identifier: Apache-2.0
#include "launch/text.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace conclave::launch {

std::string CountText(int64_t count) {
  const std::string digits = absl::StrFormat("%d", count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool group_begins = (digits.size() - i) % 3 == 0;
    if (group_begins && !text.empty() && text != "-") text += ',';
    text += digits[i];
  }
  return text;
}

std::string BytesText(int64_t bytes) {
  static constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrFormat("%d bytes", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string DurationText(double seconds) {
  const int64_t total = static_cast<int64_t>(std::clamp(seconds, 0.0, 1e12) + 0.5);
  const int64_t hours = total / 3600, minutes = total / 60 % 60;
  if (hours > 0) return absl::StrFormat("%d:%02d:%02d", hours, minutes, total % 60);
  return absl::StrFormat("%d:%02d", minutes, total % 60);
}

std::string FlopText(double flops) {
  static constexpr const char* kUnits[] = {"MFLOP", "GFLOP", "TFLOP", "PFLOP"};
  double value = flops / 1e6;
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FlopRateText(double per_second) { return FlopText(per_second) + "/s"; }

}  // namespace conclave::launch
