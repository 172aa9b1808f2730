// SPDX-License-Identifier: Apache-2.0
// The list of one rank while it is made. A schedule says only which lane acts next: a lane is a stage with the
// micro-batches that pass it on this rank, and they follow in ascending order by themselves. Weight gradients that were
// put off are run oldest first, whichever lane they are of.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "parallel/action.h"

namespace conclave::parallel {

class CellList {
 public:
  // Lanes are numbered in the order in which they are added.
  void AddLane(int stage, int first_micro = 0) { lanes_.push_back({.stage = stage, .first_micro = first_micro}); }

  int num_forward(int lane) const { return lanes_[lane].num_forward; }

  void Forward(int lane) { cells_.push_back({NextForward(lane)}); }
  void Backward(int lane) { cells_.push_back({NextBackward(lane, Verb::kBackward)}); }
  void BackwardInput(int lane) {
    cells_.push_back({NextBackward(lane, Verb::kBackwardInput)});
    put_off_.push_back(cells_.back().first);
  }
  void BackwardWeight() {
    cells_.push_back({{Verb::kBackwardWeight, put_off_.front().stage, put_off_.front().micro}});
    put_off_.pop_front();
  }
  void Overlap(int forward_lane, int backward_lane) {
    const Action forward = NextForward(forward_lane);
    cells_.push_back({forward, NextBackward(backward_lane, Verb::kBackward)});
  }

  // The list, ended by the weight gradients that are still put off.
  std::vector<Cell> Finish() && {
    while (!put_off_.empty()) BackwardWeight();
    return std::move(cells_);
  }

 private:
  struct Lane {
    int stage = 0;
    int first_micro = 0;
    int num_forward = 0, num_backward = 0;  // so far
  };

  Action NextForward(int lane) {
    Lane& l = lanes_[lane];
    return {Verb::kForward, l.stage, l.first_micro + l.num_forward++};
  }
  Action NextBackward(int lane, Verb verb) {
    Lane& l = lanes_[lane];
    return {verb, l.stage, l.first_micro + l.num_backward++};
  }

  std::vector<Lane> lanes_;
  std::deque<Action> put_off_;  // I whose W has not been run
  std::vector<Cell> cells_;
};

}  // namespace conclave::parallel
