// SPDX-License-Identifier: Apache-2.0
#include "launch/progress.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <utility>

#include "absl/strings/str_format.h"

#include "launch/text.h"

namespace conclave::launch {
namespace {

std::string ClockText(double seconds_from_now) {
  const std::time_t then = std::time(nullptr) + static_cast<std::time_t>(std::min(seconds_from_now, 1e9));
  std::tm local{};
  localtime_r(&then, &local);
  return absl::StrFormat("%02d:%02d", local.tm_hour, local.tm_min);
}

}  // namespace

std::string ProgressText(const ProgressState& state) {
  std::string text = absl::StrFormat("step %d/%d  %d%%  loss %.4f", state.step, state.total_steps,
                                     100 * state.step / std::max<int64_t>(state.total_steps, 1), state.loss);
  if (state.validation_loss) text += absl::StrFormat("  validation %.4f", *state.validation_loss);
  text +=
      absl::StrFormat("  norm %.3f  lr %.2e  %s tok/s  %s", state.grad_norm, state.lr,
                      CountText(static_cast<int64_t>(state.tokens_per_second)), FlopRateText(state.flops_per_second));
  if (state.load_imbalance > 0) text += absl::StrFormat("  load %.2f", state.load_imbalance);
  if (state.step < state.total_steps) text += "  ETA " + DurationText(state.seconds_left);
  return text;
}

void Progress::Update(ProgressState state) {
  // Weighs about the last ten steps; the start weighs less, so that no false first value lingers.
  if (std::isfinite(state.loss)) {
    smooth_loss_ += (state.loss - smooth_loss_) / static_cast<double>(std::min<int64_t>(++updates_, 10));
    state.loss = smooth_loss_;
  }
  const auto now = std::chrono::steady_clock::now();
  const double waited = std::chrono::duration<double>(now - last_shown_).count();
  const bool must = updates_ <= 1 || state.step == state.total_steps || state.validation_loss.has_value();
  if (!must && waited < line_.seconds_between()) return;
  last_shown_ = now;
  std::string text = ProgressText(state);
  if (state.validation_loss) return line_.Line(text);
  if (line_.is_terminal() && state.step < state.total_steps) text += " (" + ClockText(state.seconds_left) + ")";
  line_.Show(std::move(text));
}

}  // namespace conclave::launch
