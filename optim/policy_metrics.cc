// SPDX-License-Identifier: Apache-2.0
#include "optim/policy_metrics.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/check.h"
#include "core/base/fixed_sum.h"

namespace conclave::optim {
namespace {

using core::PolicySum;

// A row has a small part of a loss that is a mean over the batch: a finer unit than that of sums over labels.
constexpr double kLossScale = 0x1p10;

int64_t Place(PolicySum sum) { return static_cast<int64_t>(sum); }

}  // namespace

int64_t AddPolicyRows(std::span<const double> rows, int64_t batch_rows, std::span<int64_t> totals,
                      std::span<int64_t> maxima) {
  CHECK_EQ(static_cast<int64_t>(totals.size()), kPolicyTotals);
  const double range = std::nextafter(core::kLossRange, 0) / static_cast<double>(batch_rows);
  int64_t bad_rows = 0;
  for (; !rows.empty(); rows = rows.subspan(core::kPolicySums)) {
    const double loss = rows[Place(PolicySum::kLoss)] * kLossScale;
    if (!(std::fabs(loss) <= range)) {
      ++bad_rows;
      continue;
    }
    totals[Place(PolicySum::kLoss)] += core::LossToFixed(loss);
    for (int64_t i = 1; i < kPolicyTotals; ++i) totals[i] += core::LossToFixed(rows[i] <= range ? rows[i] : range);
    for (int64_t i = 0; i < core::kPolicyMaxima; ++i) {
      maxima[i] = std::max(maxima[i], std::bit_cast<int64_t>(rows[kPolicyTotals + i]));
    }
  }
  return bad_rows;
}

PolicyMetrics ReadPolicyTotals(std::span<const int64_t> totals, std::span<const int64_t> maxima) {
  const auto sum = [&](PolicySum which) { return core::FixedToLoss(totals[Place(which)]); };
  const auto largest = [&](PolicySum which) { return std::bit_cast<double>(maxima[Place(which) - kPolicyTotals]); };
  const double tokens = sum(PolicySum::kTokens);
  PolicyMetrics metrics{.loss = sum(PolicySum::kLoss) / kLossScale, .tokens = std::llround(tokens)};
  if (metrics.tokens == 0) return metrics;
  metrics.clipped_low = sum(PolicySum::kClippedLow) / tokens;
  metrics.clipped_high = sum(PolicySum::kClippedHigh) / tokens;
  metrics.dual_clipped = sum(PolicySum::kDualClipped) / tokens;
  metrics.ratio = sum(PolicySum::kRatio) / tokens;
  metrics.kl = sum(PolicySum::kKl) / tokens;
  metrics.reference_kl = sum(PolicySum::kReferenceKl) / tokens;
  metrics.difference = sum(PolicySum::kDifference) / tokens;
  metrics.differing_tokens = std::llround(sum(PolicySum::kDifferingTokens));
  metrics.largest_difference = largest(PolicySum::kLargestDifference);
  metrics.largest_ratio = largest(PolicySum::kLargestRatio);
  return metrics;
}

}  // namespace conclave::optim
