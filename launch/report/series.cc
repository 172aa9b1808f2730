// SPDX-License-Identifier: Apache-2.0
#include "launch/report/series.h"

#include <algorithm>
#include <cmath>

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

Series Means(const Series& series, size_t shares) {
  Series means;
  const size_t count = std::min(shares, series.size());
  for (size_t share = 0; share < count; ++share) {
    const size_t begin = share * series.size() / count, end = (share + 1) * series.size() / count;
    double mean = 0;
    int terms = 0;
    for (size_t i = begin; i < end; ++i) {
      if (!std::isfinite(series[i].y)) continue;
      ++terms;
      mean += (series[i].y - mean) / terms;
    }
    means.push_back({.x = series[(begin + end) / 2].x, .y = terms > 0 ? mean : std::nan("")});
  }
  return means;
}

}  // namespace conclave::launch
