// SPDX-License-Identifier: Apache-2.0
#include "parallel/simulate.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "parallel/schedule_order.h"

namespace conclave::parallel {
namespace {

double CostOf(const Action& action, const SimulationCosts& costs) {
  const StageCost& stage = costs.stages.size() == 1 ? costs.stages[0] : costs.stages[action.stage];
  switch (action.verb) {
    case Verb::kForward:
      return stage.forward;
    case Verb::kBackward:
      return stage.backward_input + stage.backward_weight;
    case Verb::kBackwardInput:
      return stage.backward_input;
    case Verb::kBackwardWeight:
      return stage.backward_weight;
  }
  return 0;
}

double CostOf(const Cell& cell, const SimulationCosts& costs) {
  const double first = CostOf(cell.first, costs);
  return cell.second ? (first + CostOf(*cell.second, costs)) * costs.overlap : first;
}

std::string Label(const Cell& cell) {  // without stages, which follow from the rank
  std::string label;
  ForEachAction(cell, [&label](const Action& action) {
    const std::string text = ActionText(action);
    label += (label.empty() ? "" : "&") + text.substr(text.find_first_not_of("0123456789"));
  });
  return label;
}

}  // namespace

double Simulation::BubbleShare() const {
  double idle_of_all = 0;
  for (const double time : idle) idle_of_all += time;
  return makespan > 0 ? idle_of_all / (makespan * static_cast<double>(idle.size())) : 0;
}

Simulation Simulate(const Schedule& schedule, const SimulationCosts& costs) {
  CHECK(costs.stages.size() == 1 || costs.stages.size() == static_cast<size_t>(schedule.num_stages));
  Simulation simulation;
  simulation.ranks.resize(schedule.num_ranks);
  simulation.idle.resize(schedule.num_ranks);
  std::vector<double> end_of_rank(schedule.num_ranks), end_of_result(NumResults(schedule));
  WalkInOrder(schedule, [&](int rank, const Cell& cell) {
    double begin = end_of_rank[rank];
    ForEachAction(cell, [&](const Action& action) {
      ForEachDependency(schedule, action, [&](const Action& needed) {
        const bool travels = schedule.RankOf(needed.stage, needed.micro) != rank;
        begin = std::max(begin, end_of_result[ResultIndex(schedule, needed)] + (travels ? costs.transfer : 0));
      });
    });
    const double cost = CostOf(cell, costs), end = begin + cost;
    ForEachAction(cell, [&](const Action& action) { end_of_result[ResultIndex(schedule, action)] = end; });
    end_of_rank[rank] = end;
    simulation.idle[rank] -= cost;
    simulation.ranks[rank].push_back({cell, begin, end});
    simulation.makespan = std::max(simulation.makespan, end);
  });
  for (double& idle : simulation.idle) idle += simulation.makespan;
  return simulation;
}

std::string TimelineText(const Simulation& simulation, double unit) {
  const auto column = [unit](double time) { return static_cast<size_t>(time / unit + 0.5); };
  std::string text;
  for (const std::vector<TimedCell>& cells : simulation.ranks) {
    std::string line(column(simulation.makespan), '.');
    for (const TimedCell& timed : cells) {
      const size_t begin = column(timed.begin), width = column(timed.end) - begin;
      std::string label = Label(timed.cell);
      label.resize(width, '-');
      line.replace(begin, width, label);
    }
    text += line + '\n';
  }
  return text;
}

}  // namespace conclave::parallel
