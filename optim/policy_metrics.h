// SPDX-License-Identifier: Apache-2.0
// What a step of a policy came to, from the sums that PolicyLoss leaves by row to figures that are the same in every
// layout: sums are integers (core/base/fixed_sum.h), greatest values the bits of non-negative doubles, whose order is
// that of integers. A statistic beyond the range of its sum is cut to it; only the loss makes a step void.
#pragma once

#include <cstdint>
#include <span>

#include "core/device/kernels.h"

namespace conclave::optim {

// Shares and means are over the tokens that are learned from.
struct PolicyMetrics {
  double loss = 0;
  int64_t tokens = 0;
  double clipped_low = 0, clipped_high = 0, dual_clipped = 0;  // shares
  double ratio = 1, largest_ratio = 1;                         // of probabilities now and when drawn, by token
  double kl = 0;            // divergence of the policy that sampled from the one that learns, nats, estimated
  double reference_kl = 0;  // of that one from the reference; 0 without
  double difference = 0;    // of log-probabilities now and when drawn, absolute: mean
  double largest_difference = 0;
  int64_t differing_tokens = 0;  // those where they are not the same bits
};

inline constexpr int64_t kPolicyTotals = core::kPolicySums - core::kPolicyMaxima;

// Adds rows [n, kPolicySums] of a batch of batch_rows rows to `totals` [kPolicyTotals], and raises `maxima`
// [kPolicyMaxima] to theirs. Returns the number of rows whose loss is out of range: they are not added.
int64_t AddPolicyRows(std::span<const double> rows, int64_t batch_rows, std::span<int64_t> totals,
                      std::span<int64_t> maxima);

PolicyMetrics ReadPolicyTotals(std::span<const int64_t> totals, std::span<const int64_t> maxima);

}  // namespace conclave::optim
