// SPDX-License-Identifier: Apache-2.0
// What --validate-data prints of its sources, and whether a run could start with them.
#pragma once

#include <string>
#include <string_view>

namespace conclave::launch {

class DataReport {
 public:
  // The heading of a source: its key and name.
  void Source(std::string_view key, std::string_view name);
  void Row(std::string_view name, std::string_view text);
  // A run would not start: why, and what to do.
  void Refuse(std::string_view why);

  bool good() const { return good_; }

 private:
  bool good_ = true;
};

}  // namespace conclave::launch
