// SPDX-License-Identifier: Apache-2.0
// Which rank of the expert axis holds which expert of a layer: in order of ids, or so that the ranks get about equally
// many tokens. Packing is greedy, the largest load first, each time onto the least loaded place that has room; where a
// router limits a token to few groups of experts, whole groups are packed onto nodes, then experts onto a node's ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace conclave::parallel {

// Of one MoE layer. Every rank holds at least one expert; counts may differ.
struct ExpertPlacement {
  int num_ranks = 1;
  std::vector<int32_t> rank_of;  // [experts]

  std::vector<int64_t> ExpertsOf(int rank) const;  // ascending
  bool operator==(const ExpertPlacement&) const = default;
};

// Consecutive experts on each rank; the first ranks hold one more where the ranks do not divide them.
ExpertPlacement MakeContiguousPlacement(int64_t num_experts, int num_ranks);

// Rank r of the axis is rank r % ranks_per_node of node r / ranks_per_node.
struct ExpertNodes {
  int num_nodes = 1, ranks_per_node = 1;
  int num_groups = 1;  // of the router, consecutive experts; stay together on a node where the nodes divide them
};

// load: tokens of each expert, [experts]. No rank gets more than the fullest of a placement in order of ids; ranks
// differ by at most one expert. Equal loads are packed in order of ids, so all ranks of a job come to the same result.
ExpertPlacement MakeBalancedPlacement(std::span<const int64_t> load, const ExpertNodes& nodes);

// Tokens of the rank that gets most.
int64_t LargestRankLoad(std::span<const int64_t> load, const ExpertPlacement& placement);

}  // namespace conclave::parallel
