// SPDX-License-Identifier: Apache-2.0
// The line that says how far a run is: redrawn in place on a terminal, written now and then into a pipe or file.
#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launch/status_line.h"

namespace conclave::launch {

struct ProgressState {
  int64_t step = 0, total_steps = 0;
  double loss = 0;  // of this step
  double grad_norm = 0, lr = 0;
  double tokens_per_second = 0, flops_per_second = 0;
  double load_imbalance = 0;                    // 0: no experts
  std::optional<double> validation_loss = {};   // measured in this step
  std::optional<double> reward = {};            // of a rollout, instead of the loss
  double length = 0;                            // tokens of a response
  std::optional<double> cache_difference = {};  // of log-probabilities, by a cache of latents
  double seconds_left = 0;
  std::string finish = {};  // "16:20": when these seconds are over
};

// Columns of what stands between parts.
inline constexpr std::string_view kProgressGap = "  ";

struct ProgressPart {
  std::string text;
  int rank = 0;  // parts of the highest rank go first where the line is too long
};

// "step 120/300", "40%", "loss 2.345", "norm 0.85", "lr 9.2e-04", "12,345 tok/s", "5.2 GFLOP/s", "load 1.20",
// "ETA 0:35", "(16:20)": as many as fit into `columns`.
std::vector<ProgressPart> ProgressParts(const ProgressState& state, size_t columns);

class Progress {
 public:
  Progress() : line_(STDOUT_FILENO), last_shown_(std::chrono::steady_clock::now()) {}
  // Shows the state if it is time to; always in the first and last step and after a validation.
  void Update(ProgressState state);
  // As StatusLine, which is where the state is shown.
  void Clear() { line_.Clear(); }
  void Finish() { line_.Finish(); }

 private:
  StatusLine line_;
  int64_t updates_ = 0;
  double smooth_loss_ = 0;
  std::chrono::steady_clock::time_point last_shown_;
};

}  // namespace conclave::launch
