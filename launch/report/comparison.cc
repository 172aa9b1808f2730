// SPDX-License-Identifier: Apache-2.0
#include "launch/report/comparison.h"

#include <cmath>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

constexpr double kClearErrors = 2;

bool Learns(const core::StagePlan& plan) { return plan.config.stage == "grpo" || plan.config.stage == "distill"; }

Comparison Compare(const StageRow& method, const StageRow& other) {
  const rl::Estimate &a = method.scores->pass_at_1, &b = other.scores->pass_at_1;
  return {.method = &method, .other = &other, .difference = a.mean - b.mean, .error = std::hypot(a.error, b.error)};
}

// New models are alike if they are as large.
bool HaveTheSameStart(const StageRow& a, const StageRow& b) {
  return a.from == b.from && (!a.from.empty() || a.params == b.params);
}

}  // namespace

Comparison::Outcome Comparison::outcome() const {
  if (std::abs(difference) <= kClearErrors * error) return Outcome::kNoDifference;
  return difference > 0 ? Outcome::kBetter : Outcome::kWorse;
}

std::string Comparison::DifferenceText() const {
  std::string text = absl::StrFormat("%+.3f +- %.3f", difference, error);
  if (error > 0) text += absl::StrFormat(" (%.1f standard errors)", std::abs(difference) / error);
  return text;
}

std::vector<Comparison> CompareWithControls(const core::Recipe& recipe, const std::vector<StageRow>& rows) {
  std::vector<Comparison> comparisons;
  for (size_t i = 0; i < rows.size(); ++i) {
    const StageRow& method = rows[i];
    if (!method.scores || !Learns(recipe.stages[i])) continue;
    for (const StageRow& other : rows) {
      if (!other.scores || &other == &method) continue;
      const bool is_start = other.name == method.from;
      const bool is_its_control = other.control && !method.control && HaveTheSameStart(method, other);
      if (is_start || is_its_control) comparisons.push_back(Compare(method, other));
    }
  }
  return comparisons;
}

}  // namespace conclave::launch
