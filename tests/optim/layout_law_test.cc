// SPDX-License-Identifier: Apache-2.0
// The layout law: no mesh, schedule, number of threads or cut into micro-batches changes a bit of state or metrics.
#include <cstdio>
#include <map>
#include <set>

#include "parallel/schedule.h"
#include "tests/support/small_layout_task.h"

namespace conclave {
namespace {

using optim::LayoutChoice;
using optim::LayoutOutcome;
using optim::LayoutTask;
using optim::RunLayout;
using testing::SmallLayoutTask;

constexpr int kRanks = 8;

// What combinations a sweep has covered.
struct Coverage {
  int legal = 0;
  std::map<std::string, int> illegal;  // by reason
  std::set<std::string> with_experts, with_zero_2, schedules;
  int two_hops = 0;
};

void ExpectSame(const LayoutTask& task, const LayoutChoice& choice, const LayoutOutcome& one, Coverage& coverage) {
  const auto outcome = RunLayout(task, choice);
  if (absl::IsInvalidArgument(outcome.status())) {
    ++coverage.illegal[std::string(outcome.status().message())];
    return;
  }
  ASSERT_TRUE(outcome.ok()) << choice.Text() << ": " << outcome.status();
  EXPECT_EQ(outcome->hash, one.hash) << choice.Text();
  EXPECT_EQ(outcome->figures, one.figures) << choice.Text();
  EXPECT_TRUE(outcome->memory_as_planned) << choice.Text();
  ++coverage.legal;
  coverage.schedules.insert(choice.parallel.schedule);
  if (choice.parallel.expert > 1) coverage.with_experts.insert(choice.parallel.schedule);
  if (choice.parallel.zero == 2) coverage.with_zero_2.insert(choice.parallel.schedule);
  coverage.two_hops += choice.parallel.ranks_per_node > 0;
}

TEST(LayoutLaw, NoLayoutChangesABit) {
  const LayoutTask task = SmallLayoutTask(48, 20);
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  Coverage coverage;
  for (const LayoutChoice& choice : optim::ListLayouts(kRanks)) {
    // Seconds on two cores: not all of six ranks, which differ from eight in little.
    if (choice.ranks == 6 && choice.parallel.pipeline != 3) continue;
    ExpectSame(task, choice, *one, coverage);
    if (::testing::Test::HasFailure()) return;  // one is enough to read
  }
  for (const auto& [reason, times] : coverage.illegal) std::printf("illegal %d times: %s\n", times, reason.c_str());
  std::printf("%d legal layouts\n", coverage.legal);
  EXPECT_GE(coverage.legal, 60);
  EXPECT_EQ(coverage.schedules.size(), 6u);
  EXPECT_EQ(coverage.with_experts.size(), 6u);
  EXPECT_EQ(coverage.with_zero_2.size(), 6u);
  EXPECT_GE(coverage.two_hops, 4);
}

// Rows that the ranks do not divide, embedding and head tied, two depths of prediction, a growing batch, an average.
TEST(LayoutLaw, HoldsForTiedHeadsAndRowsThatRanksDoNotDivide) {
  LayoutTask task = SmallLayoutTask(47, 4);
  task.model.tie_word_embeddings = true;
  task.model.num_nextn_predict_layers = 2;
  task.config.model = task.model;
  task.config.optim.ema = 0.9;
  task.config.batch.ramp = {.start = 33, .steps = 2};
  task.batch = [config = task.config](int64_t step) {
    return testing::RandomBatch(optim::RowsOfStep(config.batch, step), config.data.sequence_length,
                                config.model.vocab_size, static_cast<uint64_t>(step));
  };
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  Coverage coverage;
  for (const char* schedule : parallel::kScheduleNames) {
    for (const auto& [ranks, pipeline, expert] : {std::tuple{2, 2, 1}, {6, 3, 2}, {8, 2, 4}, {4, 4, 1}, {3, 1, 3}}) {
      LayoutChoice choice{.ranks = ranks, .micro_rows = 1};
      choice.parallel.pipeline = pipeline;
      choice.parallel.expert = expert;
      choice.parallel.schedule = schedule;
      choice.parallel.ranks_per_node = expert == 4 ? 2 : 0;
      ExpectSame(task, choice, *one, coverage);
    }
  }
  EXPECT_GE(coverage.legal, 15);
  EXPECT_GE(coverage.with_experts.size(), 5u);  // not dualpipe: some batches are an odd number of micro-batches
}

TEST(LayoutLaw, HoldsInBf16) {
  LayoutTask task = SmallLayoutTask(24, 3);
  task.config.precision = "bf16";
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  Coverage coverage;
  for (const auto& [ranks, pipeline, expert, zero] :
       {std::tuple{2, 1, 2, 2}, {4, 2, 2, 1}, {4, 1, 4, 1}, {3, 3, 1, 1}}) {
    LayoutChoice choice{.ranks = ranks, .micro_rows = 2};
    choice.parallel.pipeline = pipeline;
    choice.parallel.expert = expert;
    choice.parallel.zero = zero;
    choice.parallel.ranks_per_node = expert == 4 ? 2 : 0;
    ExpectSame(task, choice, *one, coverage);
  }
  EXPECT_EQ(coverage.legal, 4);
}

// While the batch grows, a row changes from one copy of the stages to the other: what the first had of it must not
// count again.
TEST(LayoutLaw, HoldsForTwoCopiesOfStagesWhileTheBatchGrows) {
  LayoutTask task = SmallLayoutTask(48, 4);
  task.config.batch.ramp = {.start = 24, .steps = 2};
  task.batch = [config = task.config](int64_t step) {
    return testing::RandomBatch(optim::RowsOfStep(config.batch, step), config.data.sequence_length,
                                config.model.vocab_size, static_cast<uint64_t>(step));
  };
  const auto one = RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  LayoutChoice choice{.ranks = 2, .micro_rows = 1};
  choice.parallel.pipeline = 2;
  choice.parallel.schedule = "dualpipe";
  Coverage coverage;
  ExpectSame(task, choice, *one, coverage);
  EXPECT_EQ(coverage.legal, 1);
}

}  // namespace
}  // namespace conclave
