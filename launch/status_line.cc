// SPDX-License-Identifier: Apache-2.0
#include "launch/status_line.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace conclave::launch {
namespace {

int TerminalColumns() {
  struct winsize size = {};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void Write(std::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

}  // namespace

StatusLine::StatusLine() : terminal_(::isatty(STDOUT_FILENO) != 0) {}

double StatusLine::seconds_between() const { return terminal_ ? 0.1 : 5; }

void StatusLine::Show(std::string text) {
  if (!terminal_) return Line(text);
  text.resize(std::min<size_t>(text.size(), static_cast<size_t>(TerminalColumns() - 1)));
  Write("\r\x1b[K" + text);
  drawn_ = true;
}

void StatusLine::Line(std::string_view text) {
  Clear();
  Write(std::string(text) + "\n");
}

void StatusLine::Finish() {
  if (drawn_) Write("\n");
  drawn_ = false;
}

void StatusLine::Clear() {
  if (drawn_) Write("\r\x1b[K");
  drawn_ = false;
}

}  // namespace conclave::launch
