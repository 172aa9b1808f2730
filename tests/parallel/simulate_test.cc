// SPDX-License-Identifier: Apache-2.0
// Simulated time against the known formulas, each with its conditions; P ranks, M micro-batches, F, I, W and B = I + W
// are the times of a chunk.
#include <algorithm>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "parallel/schedule_order.h"
#include "parallel/simulate.h"
#include "tests/parallel/schedule_shapes.h"

namespace conclave::parallel {
namespace {

double MakespanOf(const Schedule& schedule, const StageCost& cost, double overlap = 1) {
  return Simulate(schedule, {.stages = {cost}, .overlap = overlap}).makespan;
}

// Work of a rank if nothing overlaps.
double WorkOf(const Schedule& schedule, const StageCost& cost) {
  const int chunks = schedule.num_stages / schedule.num_ranks;
  return schedule.num_micro * chunks * (cost.forward + cost.backward_input + cost.backward_weight);
}

constexpr StageCost kEqual = {1, 1, 1};
const std::vector<StageCost> kAnyCosts = {kEqual, {1, 2, 0.5}, {3, 1, 2}, {0.25, 1, 4}};

TEST(Makespan, Of1F1BHasABubbleOfOneFAndBPerRankButOne) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("1f1b")) {
    for (const StageCost& cost : kAnyCosts) {
      const double f_and_b = cost.forward + cost.backward_input + cost.backward_weight;
      EXPECT_DOUBLE_EQ(MakespanOf(schedule, cost), WorkOf(schedule, cost) + (schedule.num_ranks - 1) * f_and_b)
          << Describe(schedule);
      ++cases;
    }
  }
  EXPECT_GT(cases, 400);
}

TEST(Makespan, OfInterleavedHasThatBubbleCountedInChunks) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("interleaved")) {
    for (const StageCost& cost : kAnyCosts) {
      const double f_and_b = cost.forward + cost.backward_input + cost.backward_weight;
      EXPECT_DOUBLE_EQ(MakespanOf(schedule, cost), WorkOf(schedule, cost) + (schedule.num_ranks - 1) * f_and_b)
          << Describe(schedule);
      ++cases;
    }
  }
  EXPECT_GT(cases, 200);
}

TEST(Makespan, OfZeroBubbleH1SavesTwoWPerRankButOne) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("zb1p")) {
    for (const StageCost& cost : {kEqual, StageCost{1, 2, 0.5}, StageCost{2, 1.5, 1}, StageCost{1, 1, 0.75}}) {
      const double bubble = cost.forward + cost.backward_input - cost.backward_weight;  // F + B - 2W
      EXPECT_DOUBLE_EQ(MakespanOf(schedule, cost), WorkOf(schedule, cost) + (schedule.num_ranks - 1) * bubble)
          << Describe(schedule);
      ++cases;
    }
  }
  EXPECT_GT(cases, 300);
}

TEST(Makespan, OfZeroBubbleVIsTheWorkAndTheWayToTheLastRank) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("zbv")) {
    for (const double unit : {1.0, 0.5}) {
      const int missing = std::max(2 * schedule.num_ranks - 2 - schedule.num_micro, 0);  // micro-batches to fill it
      EXPECT_DOUBLE_EQ(MakespanOf(schedule, {unit, unit, unit}),
                       WorkOf(schedule, {unit, unit, unit}) + (schedule.num_ranks - 1 + missing) * unit)
          << Describe(schedule);
      ++cases;
    }
  }
  EXPECT_GT(cases, 150);
}

TEST(Makespan, OfDualPipeIsThatOfThePaper) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("dualpipe")) {
    for (const double overlapped : {2.0, 2.25, 2.5, 2.75, 3.0}) {  // F&B, from B to F + B; B = 2, W = 1
      const double saved = (schedule.num_micro - schedule.num_ranks - 1) * (3 - overlapped);
      const double bubble = (schedule.num_ranks / 2 - 1) * (overlapped + 2 - 3);
      EXPECT_NEAR(MakespanOf(schedule, kEqual, overlapped / 3), WorkOf(schedule, kEqual) - saved + bubble, 1e-9)
          << Describe(schedule) << " F&B " << overlapped;
      ++cases;
    }
  }
  EXPECT_GT(cases, 80);
}

TEST(Makespan, OfDualPipeVIsThatOfThePaperOnTwiceAsManyStages) {
  int cases = 0;
  for (const Schedule& schedule : SchedulesOf("dualpipev")) {
    for (const double overlapped : {2.0, 2.25, 2.5, 2.75, 3.0}) {
      const double saved = (2 * schedule.num_micro - 2 * schedule.num_ranks - 1) * (3 - overlapped);
      const double bubble = (schedule.num_ranks - 1) * (overlapped + 2 - 3);
      EXPECT_NEAR(MakespanOf(schedule, kEqual, overlapped / 3), WorkOf(schedule, kEqual) - saved + bubble, 1e-9)
          << Describe(schedule) << " F&B " << overlapped;
      ++cases;
    }
  }
  EXPECT_GT(cases, 200);
}

TEST(Makespan, OfUnequalCostsIsGolden) {
  const std::map<std::string, double> golden = {{"1f1b", 39.25}, {"interleaved", 66.25}, {"zb1p", 35},
                                                {"zbv", 62.875}, {"dualpipe", 28.4375},  {"dualpipev", 58.8125}};
  for (const auto& [name, makespan] : golden) {
    const Schedule schedule = Make(name, {4, 8});
    SimulationCosts costs{.overlap = 0.75, .transfer = 0.125};
    for (int stage = 0; stage < schedule.num_stages; ++stage) {
      costs.stages.push_back({1 + 0.25 * (stage % 3), 1.5, 0.5 + 0.25 * (stage % 2)});
    }
    EXPECT_DOUBLE_EQ(Simulate(schedule, costs).makespan, makespan) << name;
  }
}

// ---- What holds for any costs -----------------------------------------------------------------------------------

double EndOf(const Simulation& simulation, const Schedule& schedule, const Action& made) {
  for (const std::vector<TimedCell>& cells : simulation.ranks) {
    for (const TimedCell& timed : cells) {
      bool found = false;
      ForEachAction(timed.cell, [&](const Action& action) {
        found |= ResultIndex(schedule, action) == ResultIndex(schedule, made);
      });
      if (found) return timed.end;
    }
  }
  ADD_FAILURE() << ActionText(made);
  return 0;
}

TEST(Simulate, StartsEveryCellAtTheFirstMomentThatOrderAndDependenciesAllow) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> draw(0.1, 2);
  for (const char* name : kScheduleNames) {
    const Schedule schedule = Make(name, {4, 8});
    SimulationCosts costs{.overlap = 0.8, .transfer = draw(random)};
    for (int stage = 0; stage < schedule.num_stages; ++stage) {
      costs.stages.push_back({draw(random), draw(random), draw(random)});
    }
    const Simulation simulation = Simulate(schedule, costs);
    double last = 0;
    for (int rank = 0; rank < 4; ++rank) {
      const std::vector<TimedCell>& cells = simulation.ranks[rank];
      ASSERT_EQ(cells.size(), schedule.cells[rank].size());
      double work = 0;
      for (size_t i = 0; i < cells.size(); ++i) {
        EXPECT_EQ(cells[i].cell, schedule.cells[rank][i]);
        double begin = i == 0 ? 0 : cells[i - 1].end;
        ForEachAction(cells[i].cell, [&](const Action& action) {
          ForEachDependency(schedule, action, [&](const Action& needed) {
            const bool travels = schedule.RankOf(needed.stage, needed.micro) != rank;
            begin = std::max(begin, EndOf(simulation, schedule, needed) + (travels ? costs.transfer : 0));
          });
        });
        EXPECT_DOUBLE_EQ(cells[i].begin, begin) << name << " " << CellText(cells[i].cell);
        work += cells[i].end - cells[i].begin;
      }
      EXPECT_NEAR(simulation.idle[rank], simulation.makespan - work, 1e-9);
      last = std::max(last, cells.back().end);
    }
    EXPECT_DOUBLE_EQ(simulation.makespan, last);
    EXPECT_NEAR(simulation.BubbleShare(),
                std::accumulate(simulation.idle.begin(), simulation.idle.end(), 0.0) / (4 * simulation.makespan),
                1e-12);
  }
}

TEST(Simulate, TakesTheCostsOfEachActionsStage) {
  const Schedule schedule = Make("1f1b", {2, 1});
  const SimulationCosts costs{.stages = {{1, 10, 100}, {2, 20, 200}}, .transfer = 1000};
  const Simulation simulation = Simulate(schedule, costs);
  EXPECT_DOUBLE_EQ(simulation.makespan, 1 + 1000 + 222 + 1000 + 110);
  EXPECT_DOUBLE_EQ(simulation.idle[0], 2222);
  EXPECT_DOUBLE_EQ(simulation.idle[1], 2111);
}

TEST(Simulate, RunsForwardAloneWithoutGapsOnceThePipelineIsFull) {
  const auto makespan = [](const char* name) { return MakespanOf(MakeForwardSchedule(Make(name, {4, 8}), 8), kEqual); };
  EXPECT_DOUBLE_EQ(makespan("1f1b"), 8 + 3);
  EXPECT_DOUBLE_EQ(makespan("dualpipe"), 8 + 2);     // each end works while it waits for the other
  EXPECT_DOUBLE_EQ(makespan("zbv"), 3 + 2 * 8 + 3);  // to the last rank, its work, and back
}

TEST(Simulate, OverlapSavesAQuarterOfDualPipeVIfACellTakesTwoThirds) {
  const Schedule schedule = Make("dualpipev", {4, 40});
  EXPECT_LT(MakespanOf(schedule, kEqual, 2.0 / 3), 0.75 * MakespanOf(schedule, kEqual));
}

// ---- Pictures -------------------------------------------------------------------------------------------------------

TEST(TimelineText, ShowsVerbsMicroBatchesAndGaps) {
  const Simulation simulation = Simulate(Make("1f1b", {2, 2}), {.stages = {kEqual}});
  EXPECT_EQ(TimelineText(simulation, 0.5),
            "F0F1....B0--..B1--\n"
            "..F0B0--F1B1--....\n");
  EXPECT_EQ(TimelineText(simulation, 1),
            "FF..B0.B1\n"
            ".FB0FB1..\n");
  EXPECT_EQ(TimelineText(simulation, 100), "\n\n");
}

TEST(TimelineText, ShowsBothPartsOfAnOverlappedCell) {
  const Simulation simulation = Simulate(Make("dualpipev", {1, 2}), {.stages = {kEqual}, .overlap = 0.5});
  EXPECT_EQ(TimelineText(simulation, 0.25), "F0--F0--F1--B0------F1&B0-B1------I1--W1--\n");
}

}  // namespace
}  // namespace conclave::parallel
