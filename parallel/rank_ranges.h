// SPDX-License-Identifier: Apache-2.0
// Sets of ranks and of their hosts as short text.
#pragma once

#include <span>
#include <string>

namespace conclave::parallel {

// Ascending numbers: "0-3, 7".
std::string RangesText(std::span<const int> numbers);

// Which ranks each host has, hosts in the order of their first rank: "node1: 0-3; node2: 4-7". Of more than 8
// hosts the first and the last few.
std::string HostRangesText(std::span<const std::string> host_of_rank);

}  // namespace conclave::parallel
