// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/weight_assignment.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "core/base/check.h"

namespace conclave::core {

std::vector<int> AssignWeights(std::span<const HeldWeight> weights, int num_ranks) {
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [weights](size_t a, size_t b) {
    const HeldWeight &x = weights[a], &y = weights[b];
    const bool x_has_choice = x.holders.size() > 1, y_has_choice = y.holders.size() > 1;
    return std::tie(x_has_choice, y.bytes, x.name) < std::tie(y_has_choice, x.bytes, y.name);
  });
  std::vector<int64_t> load(static_cast<size_t>(num_ranks), 0);  // bytes
  std::vector<int> writers(weights.size());
  for (const size_t i : order) {
    const std::vector<int>& holders = weights[i].holders;
    CHECK(!holders.empty());
    for (const int rank : holders) CHECK(rank >= 0 && rank < num_ranks);
    writers[i] = *std::min_element(holders.begin(), holders.end(),
                                   [&load](int a, int b) { return std::tie(load[a], a) < std::tie(load[b], b); });
    load[writers[i]] += weights[i].bytes;
  }
  return writers;
}

}  // namespace conclave::core
