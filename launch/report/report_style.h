// SPDX-License-Identifier: Apache-2.0
// The style sheet of report.html: one column, fonts of the system, colours as variables for light and dark. Colours of
// lines are told apart by those who do not see red and green alike (after Okabe and Ito), with a contrast of 3 to 1 and
// more on both grounds.
#pragma once

namespace conclave::launch {

extern const char kReportStyle[];

}  // namespace conclave::launch
