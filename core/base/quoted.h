// SPDX-License-Identifier: Apache-2.0
// Foreign text in a message: in quotes, escaped to ASCII, cut after 120 bytes.
#pragma once

#include <string>
#include <string_view>

namespace conclave::core {

std::string Quoted(std::string_view text);

}  // namespace conclave::core
