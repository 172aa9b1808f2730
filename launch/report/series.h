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

// Of each of `shares` equal shares of the points the mean, at the point in its middle. What is no number is left out.
Series Means(const Series& series, size_t shares);

}  // namespace conclave::launch
