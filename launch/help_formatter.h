// SPDX-License-Identifier: Apache-2.0
// The list of options as --help prints it: type and default beside the name, the meaning wrapped to a page.
#pragma once

#include <sstream>
#include <string>

#include "CLI/CLI.hpp"

#include "launch/option_checks.h"

namespace conclave::launch {

class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kNameColumns); }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_positional() || !TakesValue(*option)) return "";
    const std::string value = option->get_default_str();
    return " " + option->get_type_name() + (value.empty() ? "" : "=" + value);
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::istringstream words(option->get_description());
    std::string text, word;
    size_t columns = 0;
    while (words >> word) {
      const bool fits = columns + 1 + word.size() <= kPageColumns - kNameColumns;
      if (!text.empty()) text += fits ? ' ' : '\n';
      columns = fits ? columns + 1 + word.size() : word.size();
      text += word;
    }
    return text;
  }

 private:
  static constexpr size_t kNameColumns = 26, kPageColumns = 100;
};

}  // namespace conclave::launch
