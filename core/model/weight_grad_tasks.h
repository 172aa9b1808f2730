// SPDX-License-Identifier: Apache-2.0
// Weight gradients as data. Backward computes input gradients and appends one task per matrix; whoever runs the
// schedule drains the list - at once, or later in a W action. Sums are integers, so when and in which order never
// changes a bit.
#pragma once

#include <vector>

#include "core/device/kernels.h"

namespace conclave::core {

struct WeightGradTask {
  const char* use;      // for pictures and profiles, e.g. "o_proj"
  WeightGradArgs args;  // its tensors live until the weight gradient
};

class WeightGradTasks {
 public:
  explicit WeightGradTasks(int capacity) { tasks_.reserve(capacity); }
  void Append(const char* use, const WeightGradArgs& args) { tasks_.push_back({use, args}); }
  void Drain(Kernels& kernels) {
    for (const WeightGradTask& task : tasks_) kernels.WeightGrad(task.args);
    tasks_.clear();
  }
  const std::vector<WeightGradTask>& tasks() const { return tasks_; }

 private:
  std::vector<WeightGradTask> tasks_;  // never grows beyond its first capacity in a steady step
};

}  // namespace conclave::core
