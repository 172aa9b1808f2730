// SPDX-License-Identifier: Apache-2.0
// A 64-bit hash of a text that is the same on every machine and in every release: splits of data depend on it.
#pragma once

#include <cstdint>
#include <string_view>

namespace conclave::data {

uint64_t TextHash(std::string_view text);

}  // namespace conclave::data
