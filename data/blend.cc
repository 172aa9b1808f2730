// SPDX-License-Identifier: Apache-2.0
// The j-th draw of a source with c draws per cycle of D may come at slot floor(j D / c) and must come before slot
// ceil((j + 1) D / c). The earliest deadline first meets all deadlines whenever that is possible (one processor, unit
// jobs), and it is: the shares sum to D. Meeting them means that |draws - n c / D| < 1 after every n draws.
#include "data/blend.h"

#include <algorithm>
#include <numeric>

#include "core/base/check.h"

namespace conclave::data {
namespace {

// Whole shares of a cycle, at least one each, that sum to kCycle: rounded down, then the largest remainders up.
std::vector<int64_t> Shares(std::span<const double> weights) {
  const double largest = *std::max_element(weights.begin(), weights.end());  // keeps the sum finite
  double total = 0;
  for (const double weight : weights) total += weight / largest;
  std::vector<int64_t> shares(weights.size());
  std::vector<double> remainders(weights.size());
  for (size_t s = 0; s < weights.size(); ++s) {
    const double exact = std::max(weights[s] / largest / total * Blend::kCycle, 1.0);
    shares[s] = static_cast<int64_t>(exact);
    remainders[s] = exact - static_cast<double>(shares[s]);
  }
  std::vector<int64_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), 0);
  std::stable_sort(by_remainder.begin(), by_remainder.end(),
                   [&](int64_t a, int64_t b) { return remainders[a] > remainders[b]; });
  // Sources lifted to their one draw can make the sum too large: the largest shares give back.
  int64_t missing = Blend::kCycle - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (size_t i = 0; missing > 0; ++i, --missing) ++shares[by_remainder[i]];
  for (; missing < 0; ++missing) --*std::max_element(shares.begin(), shares.end());
  return shares;
}

}  // namespace

Blend::Blend(std::span<const double> weights) : sources_(kCycle), draws_before_(kCycle) {
  CHECK(!weights.empty());
  CHECK_LE(weights.size(), kMaxSources);
  shares_ = Shares(weights);
  std::vector<int64_t> drawn(weights.size(), 0);
  for (int64_t slot = 0; slot < kCycle; ++slot) {
    int64_t chosen = -1, chosen_deadline = kCycle + 1;
    for (size_t s = 0; s < weights.size(); ++s) {
      const bool released = drawn[s] * kCycle / shares_[s] <= slot;
      const int64_t deadline = ((drawn[s] + 1) * kCycle + shares_[s] - 1) / shares_[s];
      if (drawn[s] == shares_[s] || !released || deadline >= chosen_deadline) continue;
      chosen = static_cast<int64_t>(s);
      chosen_deadline = deadline;
    }
    CHECK_GE(chosen, 0);
    sources_[slot] = static_cast<uint16_t>(chosen);
    draws_before_[slot] = static_cast<uint16_t>(drawn[chosen]++);
  }
}

Blend::Draw Blend::operator()(int64_t i) const {
  CHECK_GE(i, 0);
  const int64_t source = sources_[i % kCycle];
  return {source, i / kCycle * shares_[source] + draws_before_[i % kCycle]};
}

}  // namespace conclave::data
