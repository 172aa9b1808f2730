// SPDX-License-Identifier: Apache-2.0
// One line on stdout that changes: redrawn in place on a terminal, written anew now and then into a pipe or file.
#pragma once

#include <string>
#include <string_view>

namespace conclave::launch {

class StatusLine {
 public:
  StatusLine();

  bool is_terminal() const { return terminal_; }
  double seconds_between() const;  // how long a state stands before the next is worth showing
  void Show(std::string text);
  // A line of its own, above the one that is redrawn.
  void Line(std::string_view text);
  // Removes the redrawn line, for a message from elsewhere.
  void Clear();
  // Leaves the redrawn line as it is.
  void Finish();

 private:
  bool terminal_;
  bool drawn_ = false;  // the cursor stands behind a redrawn line
};

}  // namespace conclave::launch
