// SPDX-License-Identifier: Apache-2.0
#include "core/device/median_seconds.h"

#include <algorithm>
#include <chrono>
#include <vector>

namespace conclave::core {

double MedianSeconds(const std::function<void()>& run) {
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  run();
  std::vector<double> times;
  const Clock::time_point begin = Clock::now();
  while (times.size() < 10 || (since(begin) < 0.2 && times.size() < 1000)) {
    const Clock::time_point start = Clock::now();
    run();
    times.push_back(since(start));
  }
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

}  // namespace conclave::core
