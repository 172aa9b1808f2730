// SPDX-License-Identifier: Apache-2.0
#include "launch/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "absl/strings/str_format.h"

#include "core/base/terminal.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

constexpr int kFirstDetail = 5;  // parts of this rank and above stand back

// "16:20", with the day where it is not today's or tonight's.
std::string ClockText(double seconds_from_now) {
  constexpr double kHalfDay = 12 * 3600, kLongest = 1e9;
  const std::time_t then = std::time(nullptr) + static_cast<std::time_t>(std::min(seconds_from_now, kLongest));
  std::tm local{};
  localtime_r(&then, &local);
  char text[32] = {};
  std::strftime(text, sizeof(text), seconds_from_now < kHalfDay ? "%H:%M" : "%b %d %H:%M", &local);
  return text;
}

size_t Columns(const std::vector<ProgressPart>& parts) {
  size_t columns = 0;
  for (const ProgressPart& part : parts) columns += (columns > 0 ? kProgressGap.size() : 0) + part.text.size();
  return columns;
}

std::string Join(const std::vector<ProgressPart>& parts) {
  std::string text;
  for (const ProgressPart& part : parts) {
    if (!text.empty()) text += kProgressGap;
    text += part.rank >= kFirstDetail ? core::Styled(STDOUT_FILENO, core::Style::kDim, part.text) : part.text;
  }
  return text;
}

}  // namespace

std::vector<ProgressPart> ProgressParts(const ProgressState& state, size_t columns) {
  std::vector<ProgressPart> parts = {
      {absl::StrFormat("step %d/%d", state.step, state.total_steps), 0},
      {absl::StrFormat("%d%%", 100 * state.step / std::max<int64_t>(state.total_steps, 1)), 2},
      {state.reward ? absl::StrFormat("reward %.3f", *state.reward) : absl::StrFormat("loss %.4f", state.loss), 1}};
  if (state.reward) parts.push_back({absl::StrFormat("length %.1f", state.length), 2});
  if (state.cache_difference) parts.push_back({absl::StrFormat("cache %.1e", *state.cache_difference), 6});
  if (state.validation_loss) parts.push_back({absl::StrFormat("validation %.4f", *state.validation_loss), 1});
  parts.push_back({absl::StrFormat("norm %.3f", state.grad_norm), 7});
  parts.push_back({absl::StrFormat("lr %.2e", state.lr), 8});
  parts.push_back({CountText(static_cast<int64_t>(state.tokens_per_second)) + " tok/s", 5});
  parts.push_back({FlopRateText(state.flops_per_second), 9});
  if (state.load_imbalance > 0) parts.push_back({absl::StrFormat("load %.2f", state.load_imbalance), 6});
  if (state.step < state.total_steps) {
    parts.push_back({"ETA " + DurationText(state.seconds_left), 3});
    if (!state.finish.empty()) parts.push_back({"(" + state.finish + ")", 4});
  }
  while (parts.size() > 1 && Columns(parts) > columns) {
    parts.erase(std::max_element(parts.begin(), parts.end(),
                                 [](const ProgressPart& a, const ProgressPart& b) { return a.rank < b.rank; }));
  }
  parts[0].text.resize(std::min(parts[0].text.size(), columns));
  return parts;
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
  state.finish = ClockText(state.seconds_left);
  const std::vector<ProgressPart> parts = ProgressParts(state, line_.columns());
  if (state.validation_loss) return line_.Line(Join(parts));
  line_.Show(Join(parts), Columns(parts));
}

}  // namespace conclave::launch
