// SPDX-License-Identifier: Apache-2.0
// Schedules as lists: which shapes exist, what a valid one is, how many slots it takes.
#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "tests/parallel/schedule_shapes.h"

namespace conclave::parallel {
namespace {

TEST(Schedule, EveryLegalShapeIsValid) {
  const std::vector<Schedule> schedules = AllSchedules();
  EXPECT_GT(schedules.size(), 400u);
  for (const Schedule& schedule : schedules) {
    EXPECT_TRUE(ValidateSchedule(schedule).ok()) << Describe(schedule) << ": " << ValidateSchedule(schedule);
  }
}

TEST(Schedule, IllegalShapesSayWhy) {
  const std::vector<std::tuple<const char*, ScheduleShape, const char*>> cases = {
      {"1f1b", {0, 1}, "at least 1 rank, not 0"},
      {"1f1b", {1, 0}, "at least 1 micro-batch, not 0"},
      {"1f1b", {1 << 16, 1 << 16}, "are more than"},
      {"interleaved", {2147483647, 2147483647, 2147483647}, "are more than"},
      {"interleaved", {4, 9}, "9 is no multiple of that; take 12"},
      {"interleaved", {4, 8, 1}, "at least 2 chunks per rank, not 1; 1f1b"},
      {"interleaved", {4, 8, -1}, "at least 2 chunks per rank, not -1"},
      {"zb1p", {4, 3}, "at least 4 micro-batches"},
      {"zbv", {4, 3}, "at least 4 micro-batches"},
      {"dualpipe", {3, 8}, "even number of ranks, not 3"},
      {"dualpipe", {4, 9}, "even number, not 9"},
      {"dualpipe", {4, 6}, "at least 8 micro-batches (2 per rank)"},
      {"dualpipev", {4, 7}, "at least 8 micro-batches (2 per rank)"},
      {"dualpip", {4, 8}, "did you mean dualpipe?"},
      {"gpipe", {4, 8}, "choose from 1f1b, interleaved, zb1p, zbv, dualpipe, dualpipev"},
  };
  for (const auto& [name, shape, why] : cases) {
    const absl::Status status = CheckShape(name, shape);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name;
    EXPECT_TRUE(Contains(Message(status), why)) << status;
    EXPECT_EQ(MakeSchedule(name, shape).status(), status);
  }
}

TEST(Schedule, OneRankNeedsNoPipeline) {
  EXPECT_EQ(ScheduleText(Make("1f1b", {1, 2})),
            "1f1b for training: ranks 1, stages 1, micro-batches 2, placement loop\n0F0 0B0 0F1 0B1\n");
  for (const char* name : {"1f1b", "interleaved", "zb1p", "zbv", "dualpipev"}) {
    EXPECT_TRUE(CheckShape(name, {1, 5}).ok()) << name;
  }
}

TEST(Schedule, PlacesStages) {
  const Schedule loop = Make("interleaved", {4, 8, 3}), v = Make("zbv", {4, 8}), mirror = Make("dualpipe", {4, 8});
  EXPECT_EQ(loop.StagesOf(1), std::vector<int>({1, 5, 9}));
  EXPECT_EQ(v.StagesOf(0), std::vector<int>({0, 7}));
  EXPECT_EQ(v.StagesOf(3), std::vector<int>({3, 4}));
  EXPECT_EQ(v.HoldersOf(6), std::vector<int>({1}));
  EXPECT_EQ(mirror.StagesOf(1), std::vector<int>({1, 2}));
  EXPECT_EQ(mirror.HoldersOf(3), std::vector<int>({0, 3}));
  EXPECT_EQ(mirror.RankOf(0, 3), 0);
  EXPECT_EQ(mirror.RankOf(0, 4), 3);
}

// ---- Validator ------------------------------------------------------------------------------------------------------

// What the validator says about `schedule` after `change`.
template <class Change>
std::string Refusal(Schedule schedule, Change change) {
  change(schedule.cells);
  return Message(ValidateSchedule(schedule));
}

using Lists = std::vector<std::vector<Cell>>;

TEST(ValidateSchedule, SaysWhatIsWrong) {
  const Schedule f = Make("1f1b", {2, 2});  // 0F0 0F1 0B0 0B1 / 1F0 1B0 1F1 1B1
  const Schedule z = Make("zb1p", {2, 2});  // 0F0 0F1 0I0 0W0 0I1 0W1 / 1F0 1I0 1F1 1I1 1W0 1W1
  const Schedule d = Make("dualpipev", {1, 2});
  ASSERT_EQ(CellText(d.cells[0][4]), "1F1&0B0");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[1].erase(l[1].begin()); }), "rank 1: 1F0 is missing");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[0].pop_back(); }), "rank 0: 0I1 is missing");
  EXPECT_EQ(Refusal(z, [](Lists& l) { l[0].pop_back(); }), "rank 0: 0W1 is missing");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[1].push_back(l[1][0]); }),
            "rank 1: 1F0 makes again what an action before it has made");
  EXPECT_EQ(Refusal(z,
                    [](Lists& l) {
                      l[0].push_back({{Verb::kBackward, 0, 1}});
                    }),
            "rank 0: 0B1 makes again what an action before it has made");
  EXPECT_EQ(Refusal(f,
                    [](Lists& l) {
                      l[0].push_back({{Verb::kBackwardWeight, 0, 0}});
                    }),
            "rank 0: 0W0 makes again what an action before it has made");
  EXPECT_EQ(Refusal(f, [](Lists& l) { std::swap(l[0], l[1]); }), "rank 0: 1F0 belongs to rank 1");
  EXPECT_EQ(Refusal(z, [](Lists& l) { std::swap(l[0][2], l[0][3]); }), "deadlock: rank 0: 0W0 waits for 0I0 of rank 0");
  EXPECT_EQ(Refusal(f, [](Lists& l) { std::swap(l[0][1], l[0][3]), std::swap(l[0][1], l[0][2]); }),
            "deadlock: rank 0: 0B1 waits for 0F1 of rank 0; rank 1: 1F1 waits for 0F1 of rank 0");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[0][0].first.stage = 7; }), "rank 0: 7F0: stages are 0 .. 1");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[0][0].first.micro = -1; }), "rank 0: 0F-1: micro-batches are 0 .. 1");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l[0].clear(), l[1].resize(1); }),
            "1 actions are too few for 2 stages and 2 micro-batches");
  EXPECT_EQ(Refusal(f, [](Lists& l) { l.pop_back(); }), "lists of 1 ranks, but there are 2 ranks");
  EXPECT_TRUE(Contains(Refusal(d, [](Lists& l) { std::swap(l[0][4].first, *l[0][4].second); }), "0B0&1F1: a forward"));
  EXPECT_TRUE(Contains(Refusal(d, [](Lists& l) { l[0][0].second = l[0][1].first; }), "0F0&1F0: a forward may overlap"));
}

TEST(ValidateSchedule, RefusesAnOverlapWithItsOwnBackward) {
  Schedule schedule = Make("1f1b", {1, 1});
  schedule.cells[0] = {{{Verb::kForward, 0, 0}, Action{Verb::kBackward, 0, 0}}};
  EXPECT_EQ(Message(ValidateSchedule(schedule)), "deadlock: rank 0: 0B0 waits for 0F0 of rank 0");
}

TEST(ValidateSchedule, RefusesCountsThatDoNotFitThePlacement) {
  for (const char* name : {"1f1b", "zbv", "dualpipe"}) {
    Schedule schedule = Make(name, {4, 8});
    ++schedule.num_stages;
    EXPECT_TRUE(Contains(Message(ValidateSchedule(schedule)), std::to_string(schedule.num_stages)));
    schedule.num_stages = 0;
    EXPECT_TRUE(Contains(Message(ValidateSchedule(schedule)), "each must be at least 1"));
  }
}

TEST(ValidateSchedule, NamesAFewOfManyRanksInADeadlock) {
  const std::string refusal = Refusal(Make("1f1b", {8, 8}), [](Lists& l) { std::swap(l[0][0], l[0][15]); });
  EXPECT_TRUE(Contains(refusal, "rank 3: 3F0 waits for 2F0 of rank 2; and 4 more ranks")) << refusal;
  EXPECT_FALSE(Contains(refusal, "rank 4:")) << refusal;
}

TEST(ValidateSchedule, RefusesCountsThatNoListCouldFill) {
  Schedule schedule = Make("1f1b", {1, 1});
  schedule.num_stages = schedule.num_micro = 2147483647;
  EXPECT_TRUE(Contains(Message(ValidateSchedule(schedule)), "2 actions are too few"));
}

TEST(ValidateSchedule, RefusesWhateverIsLostDoubledOrMoved) {
  for (const char* name : kScheduleNames) {
    const Schedule schedule = Make(name, {4, 8});
    for (size_t rank = 0; rank < 4; ++rank) {
      for (size_t i = 0; i < schedule.cells[rank].size(); ++i) {
        const auto at = static_cast<ptrdiff_t>(i);
        const Cell cell = schedule.cells[rank][i];
        EXPECT_TRUE(Contains(Refusal(schedule, [&](Lists& l) { l[rank].erase(l[rank].begin() + at); }), "is missing"));
        EXPECT_TRUE(Contains(Refusal(schedule, [&](Lists& l) { l[rank].push_back(cell); }), "makes again"));
        EXPECT_TRUE(Contains(Refusal(schedule,
                                     [&](Lists& l) {
                                       l[rank].erase(l[rank].begin() + at);
                                       l[(rank + 1) % 4].push_back(cell);
                                     }),
                             "belongs to"));
        // Last to first: everything that comes before it on any rank is needed, but for the very first action.
        if (i > 0 && i + 1 == schedule.cells[rank].size()) {
          EXPECT_TRUE(Contains(Refusal(schedule, [&](Lists& l) { std::swap(l[rank][0], l[rank][i]); }), "deadlock"));
        }
      }
    }
  }
}

// ---- Forward alone --------------------------------------------------------------------------------------------------

TEST(ForwardSchedule, IsValidForAnyNumberOfMicroBatches) {
  for (const char* name : kScheduleNames) {
    const Schedule like = Make(name, {4, 8});
    for (int micro = 1; micro <= 9; ++micro) {
      Schedule forward = MakeForwardSchedule(like, micro);
      EXPECT_TRUE(ValidateSchedule(forward).ok()) << Describe(forward) << ValidateSchedule(forward);
      EXPECT_EQ(forward.num_micro, micro);
      for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(forward.StagesOf(rank), like.StagesOf(rank));
      forward.cells[3].push_back({{Verb::kBackward, forward.cells[3][0].first.stage, forward.cells[3][0].first.micro}});
      EXPECT_TRUE(Contains(Message(ValidateSchedule(forward)), "validation runs forward only"));
    }
  }
}

TEST(ForwardSchedule, SharesAnOddNumberBetweenTheEndsOfAMirror) {
  EXPECT_EQ(ScheduleText(MakeForwardSchedule(Make("dualpipe", {2, 4}), 3)),
            "dualpipe for validation: ranks 2, stages 2, micro-batches 3, placement mirror\n"
            "0F0 1F1 1F2\n0F1 1F0 0F2\n");
}

// What reductions over both copies of a stage rely on: they are begun in the order of actions.
TEST(DualPipe, MirrorRanksDoTheSameOnTheOtherHalfOfTheMicroBatches) {
  for (const int ranks : {2, 4, 6}) {
    const int micro = 4 * ranks;
    const Schedule schedule = Make("dualpipe", {ranks, micro});
    for (int rank = 0; rank < ranks; ++rank) {
      std::vector<Cell> mirrored = schedule.cells[ranks - 1 - rank];
      for (Cell& cell : mirrored) {
        cell.first.micro = (cell.first.micro + micro / 2) % micro;
        if (cell.second) cell.second->micro = (cell.second->micro + micro / 2) % micro;
      }
      EXPECT_EQ(schedule.cells[rank], mirrored) << "rank " << rank << " of " << ranks;
    }
  }
}

// ---- Slots ----------------------------------------------------------------------------------------------------------

TEST(CountSlots, IsThePeakOfTheTable) {
  for (const Schedule& schedule : AllSchedules()) {
    const int ranks = schedule.num_ranks, micro = schedule.num_micro, chunks = schedule.num_stages / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      Slots expected;
      if (schedule.name == "1f1b") {
        expected = {std::min(ranks - rank, micro), std::min(ranks - rank, micro)};
      } else if (schedule.name == "interleaved") {
        const int peak = std::min(2 * (ranks - 1 - rank) + (chunks - 1) * ranks + 1, chunks * micro);
        expected = {peak, peak};
      } else if (schedule.name == "zb1p") {
        expected = {ranks - rank, ranks};
      } else if (schedule.name == "zbv") {
        if (micro < 2 * ranks - 1) continue;
        expected = {2 * ranks, 2 * ranks};
      } else if (schedule.name == "dualpipe") {
        expected = {ranks + 1, ranks + 1};
      } else {
        expected = {2 * ranks + 1, 2 * ranks + 1};
      }
      EXPECT_EQ(CountSlots(schedule, rank).together, expected) << Describe(schedule) << " rank " << rank;
    }
  }
}

TEST(CountSlots, CountsChunksByThemselves) {
  const Schedule schedule = Make("zbv", {4, 8});
  const RankSlots first = CountSlots(schedule, 0);
  EXPECT_EQ(first.chunks, std::vector<Slots>({{8, 8}, {1, 1}}));
  EXPECT_EQ(first.together, (Slots{8, 8}));  // less than 8 + 1
  const Schedule forward = MakeForwardSchedule(schedule, 3);
  EXPECT_EQ(CountSlots(forward, 0).together, (Slots{6, 6}));  // nothing ends: validation keeps no slots
}

}  // namespace
}  // namespace conclave::parallel
