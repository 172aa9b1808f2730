// SPDX-License-Identifier: Apache-2.0
// Optimal string alignment distance, one row of the table at a time.
#include "core/config/nearest.h"

#include <algorithm>
#include <vector>

namespace conclave::core {

int EditDistance(std::string_view a, std::string_view b) {
  // row[j] = distance between the first i characters of a and the first j of b.
  std::vector<int> two_above, above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    two_above = above;
    above = row;
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = above[j - 1] + (a[i - 1] != b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replaced});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string_view Nearest(std::string_view name, std::span<const std::string> candidates) {
  constexpr size_t kLongestName = 100;  // bounds the work on hostile input; no key is longer
  if (name.size() > kLongestName) return "";
  std::string_view nearest;
  int smallest = 0;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(name, candidate);
    const int allowed = std::max(2, static_cast<int>(std::max(name.size(), candidate.size())) / 3);
    if (distance > allowed || distance >= static_cast<int>(candidate.size())) continue;
    if (nearest.empty() || distance < smallest) nearest = candidate, smallest = distance;
  }
  return nearest;
}

}  // namespace conclave::core
