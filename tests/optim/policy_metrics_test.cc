// SPDX-License-Identifier: Apache-2.0
// Figures of a policy's step from sums by row: in any order the same bits, and never a crash of what is out of range.
#include "optim/policy_metrics.h"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/rng.h"

namespace conclave::optim {
namespace {

using core::kPolicySums;
using core::PolicySum;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Totals {
  std::array<int64_t, kPolicyTotals> sums = {};
  std::array<int64_t, core::kPolicyMaxima> maxima = {};
  int64_t bad_rows = 0;
  void Add(std::span<const double> rows, int64_t batch_rows) {
    bad_rows += AddPolicyRows(rows, batch_rows, sums, maxima);
  }
  PolicyMetrics Read() const { return ReadPolicyTotals(sums, maxima); }
};

// A row of ten tokens of the given loss and largest difference.
std::vector<double> Row(double loss, double largest) {
  std::vector<double> row(kPolicySums);
  const auto set = [&](PolicySum which, double value) { row[static_cast<size_t>(which)] = value; };
  set(PolicySum::kLoss, loss);
  set(PolicySum::kTokens, 10);
  set(PolicySum::kClippedLow, 1);
  set(PolicySum::kClippedHigh, 2);
  set(PolicySum::kDualClipped, 3);
  set(PolicySum::kRatio, 12.5);
  set(PolicySum::kKl, 0.5);
  set(PolicySum::kReferenceKl, 0.25);
  set(PolicySum::kDifference, 5);
  set(PolicySum::kDifferingTokens, 9);
  set(PolicySum::kLargestDifference, largest);
  set(PolicySum::kLargestRatio, 4);
  return row;
}

TEST(PolicyMetrics, AreMeansAndSharesOverTokens) {
  Totals totals;
  totals.Add(Row(0.25, 1), 2);
  totals.Add(Row(-0.125, 3), 2);
  const PolicyMetrics metrics = totals.Read();
  EXPECT_EQ(metrics.loss, 0.125);
  EXPECT_EQ(metrics.tokens, 20);
  EXPECT_EQ(metrics.clipped_low, 0.1);
  EXPECT_EQ(metrics.clipped_high, 0.2);
  EXPECT_EQ(metrics.dual_clipped, 0.3);
  EXPECT_EQ(metrics.ratio, 1.25);
  EXPECT_EQ(metrics.kl, 0.05);
  EXPECT_EQ(metrics.reference_kl, 0.025);
  EXPECT_EQ(metrics.difference, 0.5);
  EXPECT_EQ(metrics.differing_tokens, 18);
  EXPECT_EQ(metrics.largest_difference, 3);
  EXPECT_EQ(metrics.largest_ratio, 4);
  EXPECT_EQ(totals.bad_rows, 0);
}

TEST(PolicyMetrics, AreTheSameBitsForAnyOrderOfRows) {
  std::vector<double> rows, backwards;
  for (int64_t row = 0; row < 40; ++row) {
    const std::vector<double> next = Row(1e-3 * core::StandardNormal(7, row), std::fabs(core::StandardNormal(8, row)));
    rows.insert(rows.end(), next.begin(), next.end());
    backwards.insert(backwards.begin(), next.begin(), next.end());
  }
  Totals forward, other;
  forward.Add(rows, 40);
  other.Add(std::span(backwards).first(13 * kPolicySums), 40);
  other.Add(std::span(backwards).subspan(13 * kPolicySums), 40);
  EXPECT_EQ(forward.sums, other.sums);
  EXPECT_EQ(forward.maxima, other.maxima);
}

TEST(PolicyMetrics, VoidAStepForItsLossAlone) {
  for (const double loss : {kInfinity, -kInfinity, std::nan(""), 1e30}) {
    Totals totals;
    totals.Add(Row(loss, 1), 1);
    EXPECT_EQ(totals.bad_rows, 1) << loss;
  }
  std::vector<double> row = Row(1, kInfinity);
  row[static_cast<size_t>(PolicySum::kRatio)] = kInfinity;
  row[static_cast<size_t>(PolicySum::kKl)] = std::nan("");
  Totals totals;
  for (int i = 0; i < 4; ++i) totals.Add(row, 4);
  EXPECT_EQ(totals.bad_rows, 0);
  EXPECT_GT(totals.Read().ratio, 1e9);
  EXPECT_GT(totals.Read().kl, 1e9);
  EXPECT_EQ(totals.Read().largest_difference, kInfinity);
}

TEST(PolicyMetrics, AreOnesOfNothingForNoTokens) {
  const PolicyMetrics metrics = Totals().Read();
  EXPECT_EQ(metrics.tokens, 0);
  EXPECT_EQ(metrics.ratio, 1);
  EXPECT_EQ(metrics.largest_difference, 0);
}

}  // namespace
}  // namespace conclave::optim
