// SPDX-License-Identifier: Apache-2.0
// Who writes which weight. A pure function of what everybody knows, so that all ranks come to the same answer without
// asking: first what only one rank holds, then the largest weight first, to the holder that has least to write so far.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace conclave::core {

// A whole weight and the ranks that hold it.
struct HeldWeight {
  std::string name;
  int64_t bytes = 0;         // as stored
  std::vector<int> holders;  // ranks, at least one
};

// The rank that writes weights[i], one of its holders, for each i. Neither the order of the weights nor that of holders
// matters: ties go to the lower name, then to the lower rank.
std::vector<int> AssignWeights(std::span<const HeldWeight> weights, int num_ranks);

}  // namespace conclave::core
