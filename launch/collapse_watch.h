// SPDX-License-Identifier: Apache-2.0
// Says when reinforcement learning goes the known ways to ruin: a start without a signal, groups without spread, a
// learning rate that lets rewards fall, and a policy that has only one thing left to say. Each once in a run.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "rl/grpo_metrics.h"

namespace conclave::launch {

class CollapseWatch {
 public:
  // Of each step in order. What to warn of now; mostly nothing.
  std::vector<std::string> Look(const rl::GrpoMetrics& metrics);

 private:
  enum class Ruin { kNoSignal, kNoSpread, kFalling, kOneAnswer };
  void Warn(Ruin ruin, std::string text, std::vector<std::string>& warnings);

  std::vector<rl::GrpoMetrics> last_;  // steps
  int64_t seen_ = 0;
  double solved_ = 0;       // sum of the first reward over the first steps
  double best_reward_ = 0;  // mean over some steps
  std::set<Ruin> said_;
};

}  // namespace conclave::launch
