// SPDX-License-Identifier: Apache-2.0
// Sums without an order. A float that enters a sum over rows, micro-batches or ranks is first rounded to a 64-bit
// integer of a fixed unit; integer addition is associative, so every layout gives the same bits.
#pragma once

#include <cmath>
#include <cstdint>

namespace conclave::core {

inline constexpr double kGradientUnit = 0x1p-50;      // gradients: one rounding per (row, use of a parameter)
inline constexpr double kLossUnit = 0x1p-24;          // losses: one rounding per row
inline constexpr double kLossRange = 0x1p38;          // |loss of a row| < range / rows, else the step is void
inline constexpr int kNormLimbs = 3;                  // squared norms: three limbs of 40 bits, unit 2^-64
inline constexpr double kContributionRange = 0x1p12;  // |contribution| < range / (rows x uses), else the step is void
inline constexpr double kFloatRange = 0x1p24;         // the same of sums in f32: their squared norm fits the limbs

// A gradient as a float: to double, then to float, nearest-even both times.
inline float GradientToFloat(int64_t sum) { return static_cast<float>(static_cast<double>(sum) * kGradientUnit); }

// Rounds a loss of one row (nearest-even). Non-finite or huge values become the largest integer, which no sum may
// contain.
int64_t LossToFixed(double loss);
inline double FixedToLoss(int64_t sum) { return static_cast<double>(sum) * kLossUnit; }

// Adds a non-negative double to three limbs: value = sum of limb[i] * 2^(40 i - 64). Exact down to 2^-64, below
// truncated.
void AddToNormLimbs(double value, int64_t limbs[kNormLimbs]);
double NormLimbsToDouble(const int64_t limbs[kNormLimbs]);

}  // namespace conclave::core
