// SPDX-License-Identifier: Apache-2.0
#include "optim/lr_schedule.h"

#include <algorithm>

#include "core/base/exact_math.h"

namespace conclave::optim {
namespace {

// From 1 at fraction 0 to `last` at fraction 1.
double LinearDecay(double fraction, double last) { return 1 + (last - 1) * std::clamp(fraction, 0.0, 1.0); }
double CosineDecay(double fraction, double last) {
  constexpr double kPi = 3.14159265358979323846;
  return last + (1 - last) * 0.5 * (1 + core::ExactCos(kPi * std::clamp(fraction, 0.0, 1.0)));
}

double Fraction(int64_t step, int64_t first, int64_t last) {
  return last <= first ? 1.0 : static_cast<double>(step - first) / static_cast<double>(last - first);
}

double Factor(const core::ScheduleConfig& schedule, int64_t step, int64_t total) {
  const int64_t warmup = schedule.warmup_steps;
  if (step <= warmup) return static_cast<double>(step) / static_cast<double>(warmup);
  const double last = schedule.final_factor;
  if (schedule.name == "linear") return LinearDecay(Fraction(step, warmup, total), last);
  if (schedule.name == "cosine") return CosineDecay(Fraction(step, warmup, total), last);
  if (schedule.name == "wsd" || schedule.name == "deepseek_v3") {
    const bool deepseek = schedule.name == "deepseek_v3";
    const int64_t tail = deepseek ? schedule.tail_steps : 0;
    const int64_t decay = schedule.decay_steps > 0 ? schedule.decay_steps : std::max<int64_t>(total / 10, 1);
    const int64_t constant_end =
        schedule.constant_steps > 0 ? warmup + schedule.constant_steps : std::max(total - tail - decay, warmup);
    if (tail > 0 && step > total - tail) return schedule.tail_factor;
    if (step <= constant_end) return 1;
    const double fraction = Fraction(step, constant_end, constant_end + decay);
    return deepseek ? CosineDecay(fraction, last) : LinearDecay(fraction, last);
  }
  return 1;  // constant
}

}  // namespace

double LearningRate(const core::OptimConfig& config, int64_t step, int64_t total_steps) {
  return config.lr * Factor(config.schedule, step, total_steps);
}

}  // namespace conclave::optim
