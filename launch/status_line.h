// SPDX-License-Identifier: Apache-2.0
// One line that changes, on stdout or stderr: redrawn in place on a terminal, written anew now and then into a pipe or
// file.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace conclave::launch {

class StatusLine {
 public:
  explicit StatusLine(int file);

  bool is_terminal() const { return terminal_; }
  double seconds_between() const;  // how long a state stands before the next is worth showing
  size_t columns() const;          // that a text may take; no bound in a file
  // `columns` is what `text` takes, which may have styles. Without it the text is plain, and cut where it is too long.
  void Show(std::string_view text, size_t columns);
  void Show(std::string_view text);
  // A line of its own, above the one that is redrawn.
  void Line(std::string_view text);
  // Removes the redrawn line, for a message from elsewhere.
  void Clear();
  // Leaves the redrawn line as it is.
  void Finish();

 private:
  void Write(std::string_view text) const;
  std::string TakeErasure();  // of the line that is drawn

  int file_;
  bool terminal_;
  size_t drawn_columns_ = 0;  // of the line behind which the cursor stands; 0: there is none
};

}  // namespace conclave::launch
