// SPDX-License-Identifier: Apache-2.0
// How long a piece of code computes, for tests that set a limit. CPU time leaves out what others run meanwhile, but not
// the caches and the clock that they share with it, so what is over the limit is run again.
#pragma once

#include <algorithm>
#include <ctime>
#include <limits>

namespace conclave::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__OPTIMIZE__)
inline constexpr double kSlowdown = 10;  // what a limit of time grows by in such builds
#else
inline constexpr double kSlowdown = 1;
#endif

// The fastest of at most five runs of `work`; none behind one within `limit` seconds.
template <class Work>
double FastestCpuSeconds(double limit, Work work) {
  constexpr int kRuns = 5;
  double fastest = std::numeric_limits<double>::infinity();
  for (int run = 0; run < kRuns && fastest >= limit; ++run) {
    const std::clock_t begin = std::clock();
    work();
    fastest = std::min(fastest, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  return fastest;
}

}  // namespace conclave::testing
