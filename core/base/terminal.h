// SPDX-License-Identifier: Apache-2.0
// What a terminal can do and a pipe cannot: styles and a line that is drawn anew. The only place that knows escape
// codes. Text of a style goes out bare unless its file is a terminal that may show it, so output pipes and greps
// cleanly.
#pragma once

#include <string>
#include <string_view>

namespace conclave::core {

// True for a terminal that understands cursor control: TERM is not "dumb".
bool IsTerminal(int file);

// 80 where nobody knows.
int TerminalColumns(int file);

enum class Style { kBold, kDim, kRed, kYellow };

// `text` in a style if `file` is such a terminal and the user has not set NO_COLOR (https://no-color.org).
std::string Styled(int file, Style style, std::string_view text);

// Moves to the start of the drawn line, `rows_above` rows up where it has wrapped, and erases from there on.
std::string EraseLine(int rows_above);

}  // namespace conclave::core
