// SPDX-License-Identifier: Apache-2.0
// What must happen before what, and what follows for messages between ranks.
#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "parallel/schedule_order.h"
#include "tests/parallel/schedule_shapes.h"

namespace conclave::parallel {
namespace {

TEST(ForEachDependency, StatesTheRule) {
  const Schedule schedule = Make("1f1b", {3, 2});
  const auto needed = [&schedule](Verb verb, int stage) {
    std::string text;
    ForEachDependency(schedule, {verb, stage, 1}, [&](const Action& action) { text += ActionText(action) + " "; });
    return text;
  };
  EXPECT_EQ(needed(Verb::kForward, 0), "");
  EXPECT_EQ(needed(Verb::kForward, 2), "1F1 ");
  EXPECT_EQ(needed(Verb::kBackward, 2), "2F1 ");
  EXPECT_EQ(needed(Verb::kBackward, 1), "1F1 2I1 ");
  EXPECT_EQ(needed(Verb::kBackwardInput, 0), "0F1 1I1 ");
  EXPECT_EQ(needed(Verb::kBackwardWeight, 0), "0I1 ");
  EXPECT_EQ(ResultIndex(schedule, {Verb::kBackward, 1, 1}), ResultIndex(schedule, {Verb::kBackwardInput, 1, 1}));
}

// A transport keeps the order of one (sender, receiver, tag): with a tag per stage boundary and direction, messages
// come as they are needed.
TEST(Schedule, EveryStageTakesItsMicroBatchesInAscendingOrder) {
  for (const Schedule& schedule : AllSchedules()) {
    for (const std::vector<Cell>& cells : schedule.cells) {
      std::map<std::tuple<bool, int, bool>, int> last;  // by forward or backward, stage, end where it entered
      const auto visit = [&](const Action& action) {
        if (action.verb == Verb::kBackwardWeight) return;
        const bool forward = action.verb == Verb::kForward;
        const bool mirrored = schedule.placement == Placement::kMirror && action.micro >= schedule.num_micro / 2;
        const auto [entry, is_first] = last.try_emplace({forward, action.stage, mirrored}, action.micro);
        EXPECT_TRUE(is_first || action.micro == entry->second + 1) << Describe(schedule) << " " << ActionText(action);
        entry->second = action.micro;
      };
      for (const Cell& cell : cells) ForEachAction(cell, visit);
    }
  }
}

// The greatest number of messages under way if `to` does nothing until nobody else can go on.
int MostMessagesIfOneRankLags(const Schedule& schedule, int from, int to) {
  std::vector<bool> done(NumResults(schedule)), sent(NumResults(schedule));
  std::vector<size_t> next(schedule.num_ranks);
  int in_flight = 0, most = 0;
  const auto step = [&](int rank) {
    if (next[rank] == schedule.cells[rank].size()) return false;
    const Cell& cell = schedule.cells[rank][next[rank]];
    bool ready = true;
    const auto each_needed = [&](const auto& visit) {
      ForEachAction(cell, [&](const Action& action) { ForEachDependency(schedule, action, visit); });
    };
    each_needed([&](const Action& needed) { ready &= done[ResultIndex(schedule, needed)]; });
    if (!ready) return false;
    ++next[rank];
    ForEachAction(cell, [&](const Action& action) { done[ResultIndex(schedule, action)] = true; });
    if (rank == from) {
      ForEachAction(cell, [&](const Action& action) {
        const int stage = action.verb == Verb::kForward ? action.stage + 1 : action.stage - 1;
        const bool leaves = stage >= 0 && stage < schedule.num_stages && action.verb != Verb::kBackwardWeight;
        in_flight += leaves && schedule.RankOf(stage, action.micro) == to;
      });
      most = std::max(most, in_flight);
    }
    if (rank == to) {
      each_needed([&](const Action& needed) { in_flight -= schedule.RankOf(needed.stage, needed.micro) == from; });
    }
    return true;
  };
  bool progress = true;
  while (progress) {
    progress = false;
    for (int rank = 0; rank < schedule.num_ranks; ++rank) {
      while (rank != to && step(rank)) progress = true;
    }
    if (!progress) progress = step(to);
  }
  EXPECT_EQ(in_flight, 0);
  return most;
}

TEST(MessagesInFlight, AreThoseOfTheSlowestReceiver) {
  for (const char* name : kScheduleNames) {
    for (const ScheduleShape& shape : {ScheduleShape{2, 4}, ScheduleShape{4, 8}, ScheduleShape{4, 12, 3}}) {
      const Schedule schedule = Make(name, shape);
      for (int from = 0; from < shape.num_ranks; ++from) {
        for (int to = 0; to < shape.num_ranks; ++to) {
          if (from == to) continue;
          EXPECT_EQ(MaxMessagesInFlight(schedule, from, to), MostMessagesIfOneRankLags(schedule, from, to))
              << Describe(schedule) << ": " << from << " to " << to;
        }
      }
    }
  }
}

TEST(MessagesInFlight, DoNotGrowWithTheNumberOfMicroBatches) {
  for (const char* name : kScheduleNames) {
    const Schedule few = Make(name, {4, 16}), many = Make(name, {4, 64});
    for (int from = 0; from < 4; ++from) {
      for (int to = 0; to < 4; ++to) {
        EXPECT_EQ(MaxMessagesInFlight(few, from, to), MaxMessagesInFlight(many, from, to)) << name;
      }
    }
  }
  const Schedule schedule = Make("1f1b", {4, 8});
  EXPECT_EQ(MaxMessagesInFlight(schedule, 0, 1), 4);
  EXPECT_EQ(MaxMessagesInFlight(schedule, 0, 2), 0);
  EXPECT_EQ(MaxMessagesInFlight(schedule, 0, 0), 0);
}

}  // namespace
}  // namespace conclave::parallel
