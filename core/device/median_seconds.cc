// SPDX-License-Identifier: Apache-2.0
#include "core/device/median_seconds.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace conclave::core {

namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

double MedianOfRuns(const std::function<double()>& timed_run) {
  timed_run();
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 10 || (SecondsSince(begin) < 0.2 && times.size() < 1000)) times.push_back(timed_run());
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

double MedianSeconds(const std::function<void()>& run) {
  return MedianOfRuns([&] {
    const Clock::time_point start = Clock::now();
    run();
    return SecondsSince(start);
  });
}

}  // namespace conclave::core
