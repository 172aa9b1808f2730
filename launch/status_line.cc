// SPDX-License-Identifier: Apache-2.0
#include "launch/status_line.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "core/base/terminal.h"

namespace conclave::launch {
namespace {

constexpr double kRedrawSeconds = 0.1, kLineSeconds = 5;

}  // namespace

StatusLine::StatusLine(int file) : file_(file), terminal_(core::IsTerminal(file)) {}

double StatusLine::seconds_between() const { return terminal_ ? kRedrawSeconds : kLineSeconds; }

size_t StatusLine::columns() const {
  if (!terminal_) return std::numeric_limits<size_t>::max();
  // The last column stays free: a cursor behind it may already be in the next row.
  return static_cast<size_t>(std::max(core::TerminalColumns(file_), 2)) - 1;
}

void StatusLine::Show(std::string_view text, size_t columns) {
  if (!terminal_) return Line(text);
  Write(TakeErasure() + std::string(text));
  drawn_columns_ = columns;
}

void StatusLine::Show(std::string_view text) {
  const std::string_view shown = text.substr(0, columns());
  Show(shown, shown.size());
}

void StatusLine::Line(std::string_view text) { Write(TakeErasure() + std::string(text) + "\n"); }

void StatusLine::Finish() {
  if (drawn_columns_ > 0) Write("\n");
  drawn_columns_ = 0;
}

void StatusLine::Clear() { Write(TakeErasure()); }

void StatusLine::Write(std::string_view text) const {
  FILE* const stream = file_ == STDERR_FILENO ? stderr : stdout;
  fwrite(text.data(), 1, text.size(), stream);
  fflush(stream);
}

std::string StatusLine::TakeErasure() {
  if (drawn_columns_ == 0) return "";
  // A terminal that has become narrower since has wrapped the line.
  const size_t columns = static_cast<size_t>(std::max(core::TerminalColumns(file_), 1));
  const size_t rows_above = (drawn_columns_ - 1) / columns;
  drawn_columns_ = 0;
  return core::EraseLine(static_cast<int>(rows_above));
}

}  // namespace conclave::launch
