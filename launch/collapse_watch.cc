// SPDX-License-Identifier: Apache-2.0
#include "launch/collapse_watch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

constexpr size_t kWindow = 10;          // steps that are looked at together
constexpr int64_t kFirst = 5;           // steps that count as the start
constexpr double kLeastSolved = 0.02;   // below it nothing moved in hundreds of steps
constexpr double kNoSpread = 0.95;      // share of groups
constexpr double kLeastEntropy = 0.01;  // nats per token

template <class Value>
double MeanOf(const std::vector<rl::GrpoMetrics>& steps, const Value& value) {
  double sum = 0;
  for (const rl::GrpoMetrics& step : steps) sum += value(step);
  return sum / static_cast<double>(steps.size());
}

}  // namespace

void CollapseWatch::Warn(Ruin ruin, std::string text, std::vector<std::string>& warnings) {
  if (said_.insert(ruin).second) warnings.push_back(std::move(text));
}

std::vector<std::string> CollapseWatch::Look(const rl::GrpoMetrics& metrics) {
  std::vector<std::string> warnings;
  last_.push_back(metrics);
  if (last_.size() > kWindow) last_.erase(last_.begin());
  if (metrics.step <= kFirst && !metrics.parts.empty()) {
    ++seen_;
    solved_ += metrics.parts[0];
    if (metrics.step == kFirst && solved_ / static_cast<double>(seen_) < kLeastSolved) {
      Warn(Ruin::kNoSignal,
           absl::StrFormat(
               "the first %d steps scored %.3f on average: below %.2f there is hardly a signal to learn from; "
               "train the base model longer, show it worked examples first (stage sft), or ask easier problems",
               seen_, solved_ / static_cast<double>(seen_), kLeastSolved),
           warnings);
    }
  }
  if (last_.size() < kWindow) return warnings;
  const double reward = MeanOf(last_, [](const rl::GrpoMetrics& m) { return m.reward.mean; });
  if (MeanOf(last_, [](const rl::GrpoMetrics& m) { return m.without_spread; }) > kNoSpread) {
    Warn(Ruin::kNoSpread,
         absl::StrFormat("step %d: in %d steps nearly all groups had equal rewards, so there was nothing to compare; "
                         "problems are too hard or too easy now, or rollout.group is too small",
                         metrics.step, kWindow),
         warnings);
  }
  if (best_reward_ > 0 && reward < best_reward_ / 2) {
    Warn(Ruin::kFalling,
         absl::StrFormat("step %d: rewards fell from %.3f to %.3f; the usual reason is optim.lr, %.1e, being too high",
                         metrics.step, best_reward_, reward, metrics.update.lr),
         warnings);
  }
  best_reward_ = std::max(best_reward_, reward);
  if (MeanOf(last_, [](const rl::GrpoMetrics& m) { return m.entropy; }) < kLeastEntropy) {
    Warn(Ruin::kOneAnswer,
         absl::StrFormat("step %d: the entropy of tokens is %.4f: the policy answers nearly always the same way, so "
                         "samples of a group no longer differ; look at pass@k beside pass@1",
                         metrics.step, metrics.entropy),
         warnings);
  }
  return warnings;
}

}  // namespace conclave::launch
