// SPDX-License-Identifier: Apache-2.0
#include "parallel/action.h"

#include <algorithm>

namespace conclave::parallel {

int Schedule::RankOf(int stage, int micro) const {
  switch (placement) {
    case Placement::kLoop:
      return stage % num_ranks;
    case Placement::kV:
      return stage < num_ranks ? stage : 2 * num_ranks - 1 - stage;
    case Placement::kMirror:
      return micro < num_micro / 2 ? stage : num_ranks - 1 - stage;
  }
  return 0;
}

std::vector<int> Schedule::HoldersOf(int stage) const {
  std::vector<int> ranks = {RankOf(stage, 0)};
  if (placement == Placement::kMirror) ranks.push_back(num_ranks - 1 - ranks[0]);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

std::vector<int> Schedule::StagesOf(int rank) const {
  std::vector<int> stages;
  for (int stage = 0; stage < num_stages; ++stage) {
    const std::vector<int> holders = HoldersOf(stage);
    if (std::find(holders.begin(), holders.end(), rank) != holders.end()) stages.push_back(stage);
  }
  return stages;
}

}  // namespace conclave::parallel
