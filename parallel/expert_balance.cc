// SPDX-License-Identifier: Apache-2.0
#include "parallel/expert_balance.h"

#include <algorithm>
#include <numeric>

#include "core/base/check.h"

namespace conclave::parallel {
namespace {

// Puts items onto places, so that counts differ by at most one. Returns the place of each.
std::vector<int> Pack(std::span<const int64_t> load, int num_places) {
  const int64_t items = static_cast<int64_t>(load.size());
  std::vector<int64_t> order(items);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return load[a] > load[b]; });
  std::vector<int> place_of(items);
  std::vector<int64_t> sum(num_places, 0), count(num_places, 0);
  int64_t num_larger = items % num_places;  // places that may still hold one item more
  for (int64_t item : order) {
    int best = -1;
    for (int place = 0; place < num_places; ++place) {
      const bool has_room = count[place] < items / num_places || (count[place] == items / num_places && num_larger > 0);
      if (has_room && (best < 0 || sum[place] < sum[best])) best = place;
    }
    if (count[best]++ == items / num_places) --num_larger;
    sum[best] += load[item];
    place_of[item] = best;
  }
  return place_of;
}

// The node of each expert: groups stay together.
std::vector<int> PackGroups(std::span<const int64_t> load, const ExpertNodes& nodes) {
  const size_t group_size = load.size() / nodes.num_groups;
  std::vector<int64_t> group_load(nodes.num_groups, 0);
  for (size_t e = 0; e < load.size(); ++e) group_load[e / group_size] += load[e];
  const std::vector<int> node_of_group = Pack(group_load, nodes.num_nodes);
  std::vector<int> node_of(load.size());
  for (size_t e = 0; e < load.size(); ++e) node_of[e] = node_of_group[e / group_size];
  return node_of;
}

// Greedy. Without loads, that is in order of ids: a place is filled before the next.
ExpertPlacement Place(std::span<const int64_t> load, const ExpertNodes& nodes) {
  const int64_t num_experts = static_cast<int64_t>(load.size());
  const int num_ranks = nodes.num_nodes * nodes.ranks_per_node;
  CHECK(num_ranks >= 1 && num_ranks <= num_experts);
  CHECK(nodes.num_groups >= 1 && num_experts % nodes.num_groups == 0);
  const bool by_group = nodes.num_groups > 1 && nodes.num_groups % nodes.num_nodes == 0;
  const int num_nodes = by_group ? nodes.num_nodes : 1, ranks_per_node = num_ranks / num_nodes;
  const std::vector<int> node_of = by_group ? PackGroups(load, nodes) : std::vector<int>(num_experts, 0);
  ExpertPlacement placement{.num_ranks = num_ranks, .rank_of = std::vector<int32_t>(num_experts)};
  for (int node = 0; node < num_nodes; ++node) {
    std::vector<int64_t> experts, node_load;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (node_of[e] != node) continue;
      experts.push_back(e);
      node_load.push_back(load[e]);
    }
    const std::vector<int> rank_in_node = Pack(node_load, ranks_per_node);
    for (size_t i = 0; i < experts.size(); ++i) placement.rank_of[experts[i]] = node * ranks_per_node + rank_in_node[i];
  }
  return placement;
}

}  // namespace

std::vector<int64_t> ExpertPlacement::ExpertsOf(int rank) const {
  std::vector<int64_t> experts;
  for (size_t e = 0; e < rank_of.size(); ++e) {
    if (rank_of[e] == rank) experts.push_back(static_cast<int64_t>(e));
  }
  return experts;
}

ExpertPlacement MakeContiguousPlacement(int64_t num_experts, int num_ranks) {
  return Place(std::vector<int64_t>(num_experts, 0), {.ranks_per_node = num_ranks});
}

ExpertPlacement MakeBalancedPlacement(std::span<const int64_t> load, const ExpertNodes& nodes) {
  const ExpertPlacement greedy = Place(load, nodes), in_order = Place(std::vector<int64_t>(load.size(), 0), nodes);
  return LargestRankLoad(load, in_order) < LargestRankLoad(load, greedy) ? in_order : greedy;  // greed can lose
}

int64_t LargestRankLoad(std::span<const int64_t> load, const ExpertPlacement& placement) {
  std::vector<int64_t> sum(placement.num_ranks, 0);
  for (size_t e = 0; e < load.size(); ++e) sum[placement.rank_of[e]] += load[e];
  return *std::max_element(sum.begin(), sum.end());
}

}  // namespace conclave::parallel
