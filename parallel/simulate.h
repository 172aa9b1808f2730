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
  double overlapped = 0;  // of a whole forward & backward cell; 0: the sum of its parts
};

struct SimulationCosts {
  std::vector<StageCost> stages;  // one per stage, or one for all
  double transfer = 0;            // of an activation or gradient between two ranks
};

struct TimedCell {
  Cell cell;
  double begin = 0, end = 0;
};

struct Simulation {
  double makespan = 0;
  std::vector<std::vector<TimedCell>> ranks;
  std::vector<double> idle;  // by rank: makespan - work
};

// The schedule must be valid.
Simulation Simulate(const Schedule& schedule, const SimulationCosts& costs);

// A picture in text: a line per rank, a column per unit of time.
std::string TimelineText(const Simulation& simulation, double unit);

}  // namespace conclave::parallel
