// SPDX-License-Identifier: Apache-2.0
// Values that an option takes, checked as the command line is read; the parser puts the option's name before a message.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/config/nearest.h"
#include "core/config/value_text.h"

namespace conclave::launch {

// Types that help, the reference page and completion know.
inline constexpr char kFile[] = "FILE", kFolder[] = "FOLDER", kKey[] = "KEY", kOverride[] = "KEY=VALUE";

// least <= value <= most, false for NaN.
template <class T>  // int64_t or double
CLI::Validator Within(T least, T most) {
  return CLI::Validator(
      [least, most](std::string& text) -> std::string {
        T value{};
        if (!CLI::detail::lexical_cast(text, value)) return absl::StrFormat("%s is not %s", text, core::TypeText<T>());
        if (value >= least && value <= most) return "";
        return absl::StrFormat("%s is outside %s .. %s", text, core::ValueText(least), core::ValueText(most));
      },
      "");
}

// least < value <= most
inline CLI::Validator Above(double least, double most) {
  return CLI::Validator(
      [least, most](std::string& text) -> std::string {
        double value = 0;
        if (!CLI::detail::lexical_cast(text, value)) return text + " is not a number";
        if (value > least && value <= most) return "";
        return absl::StrFormat("%s is not above %g and at most %g", text, least, most);
      },
      "");
}

inline bool TakesValue(const CLI::Option& option) { return !option.get_type_name().empty(); }

// One of a few words: the option's type lists them, "f32|bf16". A single word is lower case, names of types upper case.
inline void AddChoices(CLI::Option& option, std::vector<std::string> choices) {
  option.type_name(absl::StrJoin(choices, "|"));
  option.check(CLI::Validator(
      [choices = std::move(choices)](std::string& text) -> std::string {
        for (const std::string& choice : choices) {
          if (text == choice) return "";
        }
        const std::string_view nearest = core::Nearest(text, choices);
        return absl::StrFormat("%s is unknown%s; choose from %s", text,
                               nearest.empty() ? "" : absl::StrFormat(" (did you mean %s?)", nearest),
                               absl::StrJoin(choices, ", "));
      },
      ""));
}

inline bool IsChoice(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return TakesValue(option) &&
         (absl::ascii_islower(static_cast<unsigned char>(type[0])) || absl::StrContains(type, '|'));
}

}  // namespace conclave::launch
