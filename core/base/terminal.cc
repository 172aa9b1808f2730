// SPDX-License-Identifier: Apache-2.0
#include "core/base/terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

constexpr int kUsualColumns = 80;

std::string_view Variable(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? std::string_view() : value;
}

const char* Code(Style style) {
  switch (style) {
    case Style::kBold:
      return "1";
    case Style::kDim:
      return "2";
    case Style::kRed:
      return "31";
    case Style::kYellow:
      return "33";
  }
  return "0";
}

}  // namespace

bool IsTerminal(int file) { return ::isatty(file) != 0 && Variable("TERM") != "dumb"; }

int TerminalColumns(int file) {
  struct winsize size = {};
  return ::ioctl(file, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualColumns;
}

std::string Styled(int file, Style style, std::string_view text) {
  if (!IsTerminal(file) || !Variable("NO_COLOR").empty()) return std::string(text);
  return absl::StrFormat("\x1b[%sm%s\x1b[0m", Code(style), text);
}

std::string EraseLine(int rows_above) {
  return (rows_above > 0 ? absl::StrFormat("\x1b[%dA", rows_above) : "") + "\r\x1b[J";
}

}  // namespace conclave::core
