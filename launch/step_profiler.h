// SPDX-License-Identifier: Apache-2.0
// Where the time of a training step goes: per operation and group the median over some steps, beside what the device
// can do at best. What is not inside of an operation is waiting for the batch or the loop itself, so the rows make up
// the whole step.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"
#include "core/device/profiling_kernels.h"

namespace conclave::launch {

struct StepProfile {
  struct Row {
    std::string_view group, name;
    double calls = 0, seconds = 0, flops = 0, bytes = 0;  // of a step
    double share = 0;                                     // of the time of all rows
  };
  std::vector<Row> rows;  // by group, the slowest first; what is outside of operations last
  int64_t first_step = 0, num_steps = 0;
  double fastest_step = 0, median_step = 0, slowest_step = 0;  // seconds
  core::DType dtype = core::DType::kF32;                       // of the products
  double processors = 0;    // that the step had, less than threads if others took them
  double machine_load = 0;  // of the last minute: how many others compute, too
  double peak_flops = 0;    // FLOP/s of multiply-adds of this dtype
  double peak_between = 0;  // the same between the steps: less, where others use the cores, too
  double copy_bytes = 0;    // bytes read and written per second by a copy in memory
};

class StepProfiler {
 public:
  // Measures `num_steps` steps after the first few of this process. `operations`: where the kernels record; `dtype`: of
  // the products, whose peak is sampled between the steps.
  StepProfiler(core::OperationProfile& operations, core::Device& device, core::DType dtype, int64_t num_steps);

  void BeginStep();  // forgets what ran since the last step, such as a validation
  void EndStep(int64_t step, double seconds, double data_seconds);

  bool Complete() const { return num_measured() == num_steps_; }
  int64_t num_measured() const { return static_cast<int64_t>(steps_.size()); }

  // Of the steps so far, at least one; measures the device, which takes about a second.
  StepProfile Summarize() const;

 private:
  struct Step {
    core::OperationProfile operations;
    double seconds = 0, data_seconds = 0;
    double processors = 0;  // time of all threads / seconds
    double peak_flops = 0;  // right before it
  };
  // The median over the steps of figure(step).
  template <class Figure>
  double Median(Figure figure) const;
  std::vector<StepProfile::Row> Rows() const;

  core::OperationProfile& operations_;
  core::Device& device_;
  const core::DType dtype_;
  const int64_t num_steps_;
  int64_t warm_up_left_;
  int64_t first_step_ = 0;
  std::clock_t step_start_ = 0;  // processor time
  double peak_before_ = 0;       // FLOP/s
  std::vector<Step> steps_;      // its memory is taken before the first step
};

// The table of `conclave train --profile`.
std::string ProfileTable(const StepProfile& profile);
// profile.jsonl: a line for the steps and the device, then one per row.
std::string ProfileLines(const StepProfile& profile);

}  // namespace conclave::launch
