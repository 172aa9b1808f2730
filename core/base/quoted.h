// SPDX-License-Identifier: Apache-2.0
// Foreign text in a message: in quotes, on one line, cut after 120 bytes. Letters of every script stay; control
// characters, those that turn or hide text, and bytes that are not UTF-8 are escaped, so it cannot play with a terminal.
#pragma once

#include <string>
#include <string_view>

namespace conclave::core {

std::string Quoted(std::string_view text);

}  // namespace conclave::core
