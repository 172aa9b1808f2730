// SPDX-License-Identifier: Apache-2.0
// How long something takes that can be done again and again.
#pragma once

#include <functional>

namespace conclave::core {

// Median of 10 or more runs after one to warm up; short ones are repeated for 0.2 seconds.
double MedianSeconds(const std::function<void()>& run);

}  // namespace conclave::core
