// SPDX-License-Identifier: Apache-2.0
#include "launch/progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "absl/strings/str_format.h"

#include "launch/text.h"

namespace conclave::launch {
namespace {

constexpr double kRedrawSeconds = 0.1, kLineSeconds = 5;

int TerminalColumns() {
  struct winsize size = {};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string ClockText(double seconds_from_now) {
  const std::time_t then = std::time(nullptr) + static_cast<std::time_t>(std::min(seconds_from_now, 1e9));
  std::tm local{};
  localtime_r(&then, &local);
  return absl::StrFormat("%02d:%02d", local.tm_hour, local.tm_min);
}

void Write(std::string_view text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
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

Progress::Progress() : terminal_(::isatty(STDOUT_FILENO) != 0), last_shown_(std::chrono::steady_clock::now()) {}

void Progress::Update(ProgressState state) {
  // Weighs about the last ten steps; the start weighs less, so that no false first value lingers.
  if (std::isfinite(state.loss)) {
    smooth_loss_ += (state.loss - smooth_loss_) / static_cast<double>(std::min<int64_t>(++updates_, 10));
    state.loss = smooth_loss_;
  }
  const auto now = std::chrono::steady_clock::now();
  const double waited = std::chrono::duration<double>(now - last_shown_).count();
  const bool must = updates_ <= 1 || state.step == state.total_steps || state.validation_loss.has_value();
  if (!must && waited < (terminal_ ? kRedrawSeconds : kLineSeconds)) return;
  last_shown_ = now;
  std::string text = ProgressText(state);
  if (!terminal_ || state.validation_loss) return Line(text);
  if (state.step < state.total_steps) text += " (" + ClockText(state.seconds_left) + ")";
  text.resize(std::min<size_t>(text.size(), static_cast<size_t>(TerminalColumns() - 1)));
  Write("\r\x1b[K" + text);
  drawn_ = true;
}

void Progress::Line(std::string_view text) {
  Clear();
  Write(std::string(text) + "\n");
}

void Progress::Finish() {
  if (drawn_) Write("\n");
  drawn_ = false;
}

void Progress::Clear() {
  if (drawn_) Write("\r\x1b[K");
  drawn_ = false;
}

}  // namespace conclave::launch
