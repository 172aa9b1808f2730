// SPDX-License-Identifier: Apache-2.0
#include "parallel/rank_ranges.h"

#include <map>
#include <vector>

#include "absl/strings/str_cat.h"

namespace conclave::parallel {

std::string RangesText(std::span<const int> numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    absl::StrAppend(&text, text.empty() ? "" : ", ", numbers[i]);
    if (last > i) absl::StrAppend(&text, "-", numbers[last]);
    i = last + 1;
  }
  return text;
}

std::string HostRangesText(std::span<const std::string> host_of_rank) {
  std::map<std::string, std::vector<int>> ranks;
  std::vector<std::string> hosts;
  for (size_t rank = 0; rank < host_of_rank.size(); ++rank) {
    std::vector<int>& of_host = ranks[host_of_rank[rank]];
    if (of_host.empty()) hosts.push_back(host_of_rank[rank]);
    of_host.push_back(static_cast<int>(rank));
  }
  constexpr size_t kMostListed = 8, kEnd = 2;
  std::string text;
  for (size_t i = 0; i < hosts.size(); ++i) {
    absl::StrAppend(&text, text.empty() ? "" : "; ");
    if (hosts.size() > kMostListed && i == kMostListed - kEnd) {
      text += "...; ";
      i = hosts.size() - kEnd;
    }
    absl::StrAppend(&text, hosts[i], ": ", RangesText(ranks[hosts[i]]));
  }
  return text;
}

}  // namespace conclave::parallel
