// SPDX-License-Identifier: Apache-2.0
// Messages to a person, on stderr: one line per record, "HH:MM:SS text", with the level where it is not information.
// Written with one system call, so that lines of several threads or ranks do not mix.
//
//   LogWarning(absl::StrFormat("step %d: gradient is not finite, skipped", step));
#pragma once

#include <string_view>

namespace conclave::core {

void LogInfo(std::string_view text);
void LogWarning(std::string_view text);
void LogError(std::string_view text);

}  // namespace conclave::core
