// SPDX-License-Identifier: Apache-2.0
// A figure over steps, and few enough of its points to draw.
#pragma once

#include <cstddef>
#include <vector>

namespace conclave::launch {

struct SeriesPoint {
  double x = 0, y = 0;
  double error = 0;  // standard error of y; 0: not known
};
using Series = std::vector<SeriesPoint>;  // in ascending x; y may be no number

// At most `most` (4 or more) points of a series: the first, the last, and of equal shares of the others the lowest and
// the highest, so that no peak is lost. Points that are no numbers go only where a whole share has no other.
Series Thinned(const Series& series, size_t most);

// Each point the mean of those up to `reach` steps before and behind it; no number counts as absent.
Series Smoothed(const Series& series, size_t reach);

}  // namespace conclave::launch
