// SPDX-License-Identifier: Apache-2.0
#include "launch/report/comparison.h"

#include <cmath>

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

std::string Comparison::Verdict() const {
  switch (outcome()) {
    case Outcome::kBetter:
      return "better";
    case Outcome::kWorse:
      return other->control ? "the control wins" : "worse";
    case Outcome::kNoDifference:
      break;
  }
  return "no clear difference";
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
