// SPDX-License-Identifier: Apache-2.0
// How long something takes that can be done again and again.
#pragma once

#include <functional>
#include <vector>

namespace conclave::core {

double SecondsOf(const std::function<void()>& run);
double Median(std::vector<double> values);  // of at least one
// Median of the seconds that 10 or more runs return, after one to warm up; short ones are repeated for 0.2 seconds.
double MedianOfRuns(const std::function<double()>& timed_run);

}  // namespace conclave::core
