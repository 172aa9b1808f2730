// SPDX-License-Identifier: Apache-2.0
// A schedule on costs instead of tensors: when each action begins and ends if ranks run their lists in order. The same
// list and the same dependencies as the executor's. Gives makespan, bubble, and the timeline that plans and pictures
// show.
#pragma once

#include <string>
#include <vector>

#include "parallel/schedule.h"

namespace conclave::parallel {

// Seconds (or any unit) of one micro-batch at one stage.
struct StageCost {
  double forward = 1, backward_input = 1, backward_weight = 1;
};

struct SimulationCosts {
  std::vector<StageCost> stages;  // one per stage, or one for all
  double overlap = 1;             // time of an overlapped cell, as a share of its two actions one after the other
  double transfer = 0;            // of an activation or gradient between two ranks; hidden behind other cells
};

struct TimedCell {
  Cell cell;
  double begin = 0, end = 0;
};

struct Simulation {
  double makespan = 0;
  std::vector<std::vector<TimedCell>> ranks;
  std::vector<double> idle;  // by rank: makespan - work

  // Share of the time of all ranks in which they have nothing to do.
  double BubbleShare() const;
};

// The schedule must be valid.
Simulation Simulate(const Schedule& schedule, const SimulationCosts& costs);

// A picture in text: a line per rank, a column per unit of time. A cell shows its verb and micro-batch as far as its
// columns go, then '-'; '.' is idle.
std::string TimelineText(const Simulation& simulation, double unit);

}  // namespace conclave::parallel
