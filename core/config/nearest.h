// SPDX-License-Identifier: Apache-2.0
// The known name that a misspelt one most likely means.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace conclave::core {

// The number of inserted, removed, replaced or swapped (adjacent) characters that lead from `a` to `b`.
int EditDistance(std::string_view a, std::string_view b);

// The candidate with the smallest distance, the first of several; "" if all differ in more than a third of their
// characters (two in short names).
std::string_view Nearest(std::string_view name, std::span<const std::string> candidates);

}  // namespace conclave::core
