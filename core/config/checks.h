// SPDX-License-Identifier: Apache-2.0
// The few forms that rules about options take. Every message: key path, value, why, what to do.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

#include "core/config/value_text.h"

namespace conclave::core {

template <class T>
absl::Status Refuse(std::string_view key, const T& value, std::string_view why) {
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s %s", key, ValueText(value), why));
}

inline absl::Status InRange(std::string_view key, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Refuse(key, value, absl::StrFormat("is outside %d .. %d", least, most));
}

inline absl::Status InRange(std::string_view key, double value, double least, double most) {
  if (value >= least && value <= most) return absl::OkStatus();  // false for NaN
  return Refuse(key, value, absl::StrFormat("is outside %s .. %s", ValueText(least), ValueText(most)));
}

// 0 <= value < 1: a decay.
inline absl::Status IsDecay(std::string_view key, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return Refuse(key, value, "is not a decay: it must be at least 0 and below 1");
}

inline absl::Status IsOneOf(std::string_view key, const std::string& value,
                            std::initializer_list<std::string_view> choices) {
  std::string list;
  for (const std::string_view choice : choices) {
    if (value == choice) return absl::OkStatus();
    if (choice.empty()) continue;
    list += list.empty() ? "" : ", ";
    list += choice;
  }
  return Refuse(key, value, "is unknown; choose from " + list);
}

}  // namespace conclave::core
