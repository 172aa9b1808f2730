// SPDX-License-Identifier: Apache-2.0
#include "core/device/median_seconds.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

namespace conclave::core {

namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

double SecondsOf(const std::function<void()>& run) {
  const Clock::time_point start = Clock::now();
  run();
  return SecondsSince(start);
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double MedianOfRuns(const std::function<double()>& timed_run) {
  timed_run();
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 10 || (SecondsSince(begin) < 0.2 && times.size() < 1000)) times.push_back(timed_run());
  return Median(std::move(times));
}

}  // namespace conclave::core
