// SPDX-License-Identifier: Apache-2.0
// The line that says how far a run is: redrawn in place on a terminal, written now and then into a pipe or file.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace conclave::launch {

struct ProgressState {
  int64_t step = 0, total_steps = 0;
  double loss = 0;  // of this step
  double grad_norm = 0, lr = 0;
  double tokens_per_second = 0, flops_per_second = 0;
  double load_imbalance = 0;                   // 0: no experts
  std::optional<double> validation_loss = {};  // measured in this step
  double seconds_left = 0;
};

// "step 120/300  40%  loss 2.345  norm 0.85  lr 9.2e-04  12,345 tok/s  5.2 GFLOP/s  load 1.20  ETA 0:35"
std::string ProgressText(const ProgressState& state);

class Progress {
 public:
  // Writes to stdout.
  Progress();
  // Shows the state if it is time to; always in the first and last step and after a validation.
  void Update(ProgressState state);
  // A line of its own, above the one that is redrawn.
  void Line(std::string_view text);
  // Removes the redrawn line, for a message from elsewhere.
  void Clear();
  // Leaves the redrawn line as it is.
  void Finish();

 private:
  bool terminal_;
  bool drawn_ = false;  // the cursor stands behind a redrawn line
  int64_t updates_ = 0;
  double smooth_loss_ = 0;
  std::chrono::steady_clock::time_point last_shown_;
};

}  // namespace conclave::launch
