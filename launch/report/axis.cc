// SPDX-License-Identifier: Apache-2.0
#include "launch/report/axis.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

constexpr double kLargest = 1e300;  // beyond it differences would not be finite
constexpr double kSmallestStep = 1e-290;

// Room around equal numbers, and around those that differ by less than their digits show.
void Widen(double& low, double& high) {
  low = std::clamp(low, -kLargest, kLargest);
  high = std::clamp(high, -kLargest, kLargest);
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low > std::max(size * 1e-9, kSmallestStep)) return;
  if (size < kSmallestStep) {
    low = 0;
    high = 1;
    return;
  }
  low -= size / 2;
  high += size / 2;
}

double RoundStep(double low, double high, int most_ticks) {
  const double least = (high - low) / std::max(most_ticks - 1, 1);
  const double power = std::pow(10.0, std::floor(std::log10(least)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= least * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

void AddTicks(Axis& axis) {
  const double first = std::ceil(axis.low / axis.step - 1e-9), last = std::floor(axis.high / axis.step + 1e-9);
  for (double i = first; i <= last; ++i) axis.ticks.push_back(i * axis.step);
}

}  // namespace

std::string Axis::Text(double tick) const {
  if (std::abs(tick) < step / 2) return "0";
  constexpr struct {
    double size;
    const char* suffix;
  } kUnits[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
  const double largest = std::max(std::abs(low), std::abs(high));
  if (largest >= 1e12 || step < 1e-5) {
    const double digits = std::floor(std::log10(std::abs(tick))) - std::floor(std::log10(step) + 1e-9);
    return absl::StrFormat("%.*g", std::clamp(static_cast<int>(digits) + 1, 1, 17), tick);
  }
  for (const auto& [size, suffix] : kUnits) {
    if (step < size && size > 1) continue;
    const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step / size) + 1e-9)));
    return absl::StrFormat("%.*f%s", decimals, tick / size, suffix);
  }
  return "";
}

Axis ExactAxis(double low, double high, int most_ticks) {
  Widen(low, high);
  Axis axis{.low = low, .high = high, .step = RoundStep(low, high, most_ticks)};
  AddTicks(axis);
  return axis;
}

Axis RoundAxis(double low, double high, int most_ticks) {
  Widen(low, high);
  Axis axis{.low = low, .high = high, .step = RoundStep(low, high, most_ticks)};
  axis.low = std::floor(low / axis.step + 1e-9) * axis.step;
  axis.high = std::ceil(high / axis.step - 1e-9) * axis.step;
  AddTicks(axis);
  return axis;
}

}  // namespace conclave::launch
