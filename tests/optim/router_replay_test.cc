// SPDX-License-Identifier: Apache-2.0
// Router replay: what is recorded is what a training pass chooses, tokens go there whatever the weights have become,
// and no layout changes a bit of it.
#include "optim/router_replay.h"

#include <algorithm>

#include "tests/support/policy_batch.h"
#include "tests/support/small_layout_task.h"

namespace conclave {
namespace {

using core::RouterChoices;
using optim::ReplayUse;
using optim::StepMetrics;
using testing::RandomPolicyBatch;

constexpr ReplayUse kRecord{RouterChoices::Use::kRecord, 0}, kReplay{RouterChoices::Use::kReplay, 0};

// ---- Layouts -------------------------------------------------------------------------------------------------------

// Four steps over two batches of different numbers of rows.
optim::LayoutTask ReplayTask() {
  optim::LayoutTask task = testing::SmallLayoutTask(23, 4);
  task.config.stage = "grpo";
  task.temperature = 0.8f;
  task.replayed_batches = 2;
  task.batch = [](int64_t step) {
    core::Batch batch = RandomPolicyBatch(step == 2 ? 17 : 23, 8, 61, static_cast<uint64_t>(step));
    batch.policy->reference_log_probs.clear();
    return batch;
  };
  return task;
}

TEST(RouterReplay, NoLayoutChangesABit) {
  const optim::LayoutTask task = ReplayTask();
  const auto one = optim::RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  for (const auto& [ranks, pipeline, expert, schedule] : {std::tuple{1, 1, 1, "1f1b"},
                                                          {2, 1, 1, "1f1b"},
                                                          {2, 1, 2, "1f1b"},
                                                          {2, 2, 1, "dualpipev"},
                                                          {4, 2, 2, "zb1p"},
                                                          {3, 3, 1, "zbv"},
                                                          {4, 1, 4, "1f1b"}}) {
    optim::LayoutChoice choice{.ranks = ranks, .threads = 2, .micro_rows = ranks == 1 ? 3 : 1};
    choice.parallel.pipeline = pipeline;
    choice.parallel.expert = expert;
    choice.parallel.schedule = schedule;
    const auto outcome = optim::RunLayout(task, choice);
    ASSERT_TRUE(outcome.ok()) << choice.Text() << ": " << outcome.status();
    EXPECT_EQ(outcome->hash, one->hash) << choice.Text();
    EXPECT_EQ(outcome->figures, one->figures) << choice.Text();
    EXPECT_TRUE(outcome->memory_as_planned) << choice.Text();
  }
  optim::LayoutTask free = task;
  free.replayed_batches = 0;
  free.batch = [batch = task.batch](int64_t step) { return batch((step - 1) % 2 + 1); };
  const auto without = optim::RunLayout(free, {});
  ASSERT_TRUE(without.ok()) << without.status();
  EXPECT_NE(without->hash, one->hash);
}

TEST(RouterReplay, HoldsForTwoCopiesOfStages) {
  const optim::LayoutTask task = ReplayTask();
  const auto one = optim::RunLayout(task, {});
  ASSERT_TRUE(one.ok()) << one.status();
  optim::LayoutChoice choice{.ranks = 2, .micro_rows = 2};
  choice.parallel.pipeline = 2;
  choice.parallel.schedule = "dualpipe";
  const auto outcome = optim::RunLayout(task, choice);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->hash, one->hash);
  EXPECT_EQ(outcome->figures, one->figures);
  EXPECT_TRUE(outcome->memory_as_planned);
}

// ---- One rank ------------------------------------------------------------------------------------------------------

struct Learner {
  explicit Learner(const std::string& precision) {
    core::Config config = testing::TinyConfig();
    config.stage = "grpo";
    config.precision = precision;
    config.batch.micro_sequences = 3;
    device = testing::MakeDevice("", 2);
    model = testing::MakeTrainingModel(config, *device);
    auto made = optim::Trainer::Create(*model, config);
    EXPECT_TRUE(made.ok()) << made.status();
    trainer = std::move(made).value();
    EXPECT_TRUE(trainer->PlanReplay(1, 8).ok());
  }
  // Tokens of each expert of the main model's MoE block since the beginning.
  std::vector<int64_t> Load() const {
    const auto load = trainer->expert_load().first(6);
    return {load.begin(), load.end()};
  }
  std::unique_ptr<core::Device> device;
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Trainer> trainer;
};

core::Batch SomeBatch() {
  core::Batch batch = RandomPolicyBatch(8, 40, 97, 1);
  batch.policy->reference_log_probs.clear();
  return batch;
}

class RouterReplayIn : public ::testing::TestWithParam<const char*> {};

TEST_P(RouterReplayIn, AForwardPassRecordsWhatATrainingPassChooses) {
  Learner free(GetParam()), recorded(GetParam()), replayed(GetParam());
  const StepMetrics expected = free.trainer->Step(SomeBatch(), 1);
  recorded.trainer->Step(SomeBatch(), 1, kRecord);
  replayed.trainer->RecordChoices(SomeBatch(), 0);
  EXPECT_TRUE(replayed.trainer->MeasuredAsPlanned());
  EXPECT_EQ(replayed.Load(), std::vector<int64_t>(6)) << "nothing is counted";
  const StepMetrics metrics = replayed.trainer->Step(SomeBatch(), 1, kReplay);
  EXPECT_EQ(metrics.total_loss, expected.total_loss);
  EXPECT_EQ(metrics.flips, 0);
  EXPECT_EQ(expected.replayed, 0);
  const core::Batch batch = SomeBatch();
  EXPECT_EQ(metrics.replayed,
            std::count_if(batch.positions.begin(), batch.positions.end(), [](int32_t p) { return p >= 0; }));
  EXPECT_EQ(testing::HashState(*recorded.model), testing::HashState(*free.model));
  EXPECT_EQ(testing::HashState(*replayed.model), testing::HashState(*free.model));
}

TEST_P(RouterReplayIn, TokensGoWhereTheyWentWhateverTheWeightsHaveBecome) {
  Learner learner(GetParam()), free(GetParam());
  learner.trainer->Step(SomeBatch(), 1, kRecord);
  free.trainer->Step(SomeBatch(), 1);
  const std::vector<int64_t> first = learner.Load();
  for (int64_t step = 2; step <= 4; ++step) {
    const StepMetrics metrics = learner.trainer->Step(SomeBatch(), step, kReplay);
    free.trainer->Step(SomeBatch(), step);
    EXPECT_GT(metrics.flips, 0);
    EXPECT_LT(metrics.flips, metrics.replayed);
    for (size_t e = 0; e < first.size(); ++e) EXPECT_EQ(learner.Load()[e], step * first[e]) << e;
  }
  EXPECT_NE(free.Load(), learner.Load());
  EXPECT_NE(testing::HashState(*free.model), testing::HashState(*learner.model));
  EXPECT_TRUE(learner.trainer->MeasuredAsPlanned());
}

INSTANTIATE_TEST_SUITE_P(Precisions, RouterReplayIn, ::testing::Values("f32", "bf16"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace conclave
