// SPDX-License-Identifier: Apache-2.0
#include "launch/schedule.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"
#include "core/base/terminal.h"
#include "launch/usage_error.h"
#include "parallel/simulate.h"

namespace conclave::launch {
namespace {

constexpr int kColumnsOfAFile =
    120;  // of a timeline that goes into a file or pipe, so that it never depends on a screen

absl::StatusOr<parallel::SimulationCosts> CostsOf(const std::vector<double>& cost) {
  if (cost.empty()) return parallel::SimulationCosts{.stages = {{}}};
  if (cost.size() != 3 && cost.size() != 4) {
    return UsageError("--cost: give three numbers, F,I,W, or four with the time of an overlapped pair, F,I,W,F&B");
  }
  parallel::SimulationCosts costs{.stages = {{cost[0], cost[1], cost[2]}}};
  if (cost.size() == 4) costs.overlap = cost[3] / (cost[0] + cost[1] + cost[2]);
  return costs;
}

// As many columns for the shortest action as its label needs, or as the screen is wide enough for.
double TimelineUnit(const parallel::SimulationCosts& costs, const parallel::Schedule& schedule, double makespan) {
  const parallel::StageCost& cost = costs.stages[0];
  const double shortest = std::min({cost.forward, cost.backward_input, cost.backward_weight});
  const int screen = core::IsTerminal(STDOUT_FILENO) ? core::TerminalColumns(STDOUT_FILENO) : kColumnsOfAFile;
  const int label = 1 + static_cast<int>(absl::StrFormat("%d", schedule.num_micro - 1).size());  // F10
  for (int columns = label; columns > 0; --columns) {
    if (makespan / shortest * columns <= screen) return shortest / columns;
  }
  return makespan / screen;
}

std::string Text(const parallel::Schedule& schedule, const parallel::Simulation& simulation, double unit) {
  std::string text = parallel::ScheduleText(schedule);
  text += absl::StrFormat("\ntimeline, a column is %.4g\n%s", unit, parallel::TimelineText(simulation, unit));
  text +=
      absl::StrFormat("\nmakespan    %.6g\nbubble      %.2f %%\n", simulation.makespan, 100 * simulation.BubbleShare());
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    const parallel::Slots slots = parallel::CountSlots(schedule, rank).together;
    text += absl::StrFormat("%-10s  rank %d: %d until the input gradient, %d until the weight gradient\n",
                            rank == 0 ? "peak slots" : "", rank, slots.until_input_grad, slots.until_weight_grad);
  }
  return text;
}

std::string Json(const parallel::Schedule& schedule, const parallel::Simulation& simulation) {
  using Object = nlohmann::ordered_json;
  Object ranks = Object::array();
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    const parallel::RankSlots slots = parallel::CountSlots(schedule, rank);
    Object cells = Object::array(), chunks = Object::array();
    for (const parallel::TimedCell& timed : simulation.ranks[rank]) {
      cells.push_back({{"cell", parallel::CellText(timed.cell)}, {"begin", timed.begin}, {"end", timed.end}});
    }
    const std::vector<int> stages = schedule.StagesOf(rank);
    for (size_t i = 0; i < stages.size(); ++i) {
      chunks.push_back({{"stage", stages[i]},
                        {"until_input_grad", slots.chunks[i].until_input_grad},
                        {"until_weight_grad", slots.chunks[i].until_weight_grad}});
    }
    ranks.push_back({{"idle", simulation.idle[rank]},
                     {"until_input_grad", slots.together.until_input_grad},
                     {"until_weight_grad", slots.together.until_weight_grad},
                     {"chunks", chunks},
                     {"cells", cells}});
  }
  const Object object = {{"schedule", schedule.name},
                         {"num_ranks", schedule.num_ranks},
                         {"num_stages", schedule.num_stages},
                         {"num_micro_batches", schedule.num_micro},
                         {"makespan", simulation.makespan},
                         {"bubble_share", simulation.BubbleShare()},
                         {"ranks", ranks}};
  return object.dump() + "\n";
}

}  // namespace

absl::StatusOr<ExitCode> PrintSchedule(const ScheduleOptions& options) {
  if (options.virtual_stages > 0 && options.name != "interleaved") {
    return UsageError("--virtual-stages: only interleaved has a number of chunks to choose, " + options.name +
                      " does not; leave it out");
  }
  parallel::ScheduleShape shape{.num_ranks = options.ranks, .num_micro = options.micro_batches};
  if (options.virtual_stages > 0) shape.virtual_stages = options.virtual_stages;
  ASSIGN_OR_RETURN(const parallel::SimulationCosts costs, CostsOf(options.cost));
  RETURN_IF_ERROR(AsUsageError(parallel::CheckShape(options.name, shape)));
  ASSIGN_OR_RETURN(const parallel::Schedule schedule, parallel::MakeSchedule(options.name, shape));
  const parallel::Simulation simulation = parallel::Simulate(schedule, costs);
  const std::string text = options.json
                               ? Json(schedule, simulation)
                               : Text(schedule, simulation, TimelineUnit(costs, schedule, simulation.makespan));
  fwrite(text.data(), 1, text.size(), stdout);
  return ExitCode::kDone;
}

}  // namespace conclave::launch
