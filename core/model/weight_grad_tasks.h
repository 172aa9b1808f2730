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
  int64_t layer;        // whose parameter it is
  WeightGradArgs args;  // its tensors live until the weight gradient
};

// Told when the tasks of a layer begin and when all of one micro-batch are done: gradients that are cut over ranks are
// reduced then (parallel/grad_sync.h).
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  virtual void BeginLayer(int64_t layer) = 0;
  virtual void EndLayer(int64_t layer) = 0;
};

class WeightGradTasks {
 public:
  explicit WeightGradTasks(int capacity) { tasks_.reserve(capacity); }
  void SetSink(GradientSink* sink) { sink_ = sink; }
  // Of the tasks that follow.
  void SetLayer(int64_t layer) { layer_ = layer; }
  void Append(const char* use, const WeightGradArgs& args) { tasks_.push_back({use, layer_, args}); }
  // Runs the tasks so far. The layer of the last one may go on.
  void Drain(Kernels& kernels) {
    for (const WeightGradTask& task : tasks_) {
      if (task.layer != open_layer_) {
        Close();
        open_layer_ = task.layer;
        if (sink_) sink_->BeginLayer(task.layer);
      }
      kernels.WeightGrad(task.args);
    }
    tasks_.clear();
  }
  // The layer is complete, too.
  void DrainAndClose(Kernels& kernels) {
    Drain(kernels);
    Close();
  }
  const std::vector<WeightGradTask>& tasks() const { return tasks_; }

 private:
  void Close() {
    if (sink_ && open_layer_ >= 0) sink_->EndLayer(open_layer_);
    open_layer_ = -1;
  }

  std::vector<WeightGradTask> tasks_;  // never grows beyond its first capacity in a steady step
  GradientSink* sink_ = nullptr;
  int64_t layer_ = 0, open_layer_ = -1;
};

}  // namespace conclave::core
