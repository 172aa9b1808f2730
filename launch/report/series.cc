// SPDX-License-Identifier: Apache-2.0
#include "launch/report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace conclave::launch {
namespace {

// The lowest and the highest point of [begin, end), in their order.
void AddExtremes(const Series& series, size_t begin, size_t end, Series& thinned) {
  size_t low = end, high = end;
  for (size_t i = begin; i < end; ++i) {
    if (!std::isfinite(series[i].y)) continue;
    if (low == end || series[i].y < series[low].y) low = i;
    if (high == end || series[i].y > series[high].y) high = i;
  }
  if (low == end) {
    thinned.push_back(series[begin]);
    return;
  }
  thinned.push_back(series[std::min(low, high)]);
  if (low != high) thinned.push_back(series[std::max(low, high)]);
}

}  // namespace

Series Thinned(const Series& series, size_t most) {
  if (series.size() <= most) return series;
  Series thinned = {series.front()};
  const size_t shares = (most - 2) / 2, inner = series.size() - 2;
  for (size_t share = 0; share < shares; ++share) {
    AddExtremes(series, 1 + share * inner / shares, 1 + (share + 1) * inner / shares, thinned);
  }
  thinned.push_back(series.back());
  return thinned;
}

Series Smoothed(const Series& series, size_t reach) {
  Series smooth = series;
  for (size_t i = 0; i < series.size(); ++i) {
    double sum = 0;
    int terms = 0;
    for (size_t j = i - std::min(i, reach); j < std::min(series.size(), i + reach + 1); ++j) {
      if (!std::isfinite(series[j].y)) continue;
      sum += series[j].y;
      ++terms;
    }
    smooth[i].y = terms > 0 ? sum / terms : std::numeric_limits<double>::quiet_NaN();
  }
  return smooth;
}

}  // namespace conclave::launch
