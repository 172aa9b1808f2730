// SPDX-License-Identifier: Apache-2.0
// A steady step allocates nothing: this program's operator new counts while a step runs.
#include "core/model/decoder.h"
#include "tests/support/count_allocations.h"
#include "tests/support/policy_batch.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

void ExpectNoAllocations(const core::Batch& batch, core::OperationProfile* profile, core::Trace* trace = nullptr) {
  core::Config config = testing::TinyConfig();
  if (batch.policy) config.stage = "grpo";
  config.batch.micro_sequences = 3;  // the last micro-batch is smaller
  config.optim.ema = 0.99;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device, profile);
  const auto alone = parallel::MakeSelfComm();
  const auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), *alone, 1, trace);
  ASSERT_TRUE(layout.ok()) << layout.status();
  auto trainer = optim::Trainer::Create(*model, config, **layout);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  (*trainer)->StartEma();
  for (int64_t step = 1; step <= 3; ++step) (*trainer)->Step(batch, step);  // scratch of the threads grows here
  const int64_t before = allocations.load();
  for (int64_t step = 4; step <= 6; ++step) (*trainer)->Step(batch, step);
  EXPECT_EQ(allocations.load() - before, 0);
  (*trainer)->Evaluate(batch);
  const int64_t evaluated = allocations.load();
  (*trainer)->Evaluate(batch);
  EXPECT_EQ(allocations.load() - evaluated, 0);
}

core::Batch SomeBatch() { return testing::RandomBatch(8, 40, 97, 1); }

TEST(Trainer, ASteadyStepAllocatesNothing) { ExpectNoAllocations(SomeBatch(), nullptr); }

TEST(Trainer, AStepOfAPolicyAllocatesNothing) {
  core::Batch batch = testing::RandomPolicyBatch(8, 40, 97, 1);
  batch.policy->reference_log_probs.clear();
  ExpectNoAllocations(batch, nullptr);
}

TEST(Trainer, AReplayedStepAllocatesNothing) {
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(testing::TinyConfig(), *device);
  auto trainer = optim::Trainer::Create(*model, testing::TinyConfig());
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  ASSERT_TRUE((*trainer)->PlanReplay(2, 8).ok());
  const core::Batch batch = SomeBatch();
  const auto step = [&](int64_t number) {
    (*trainer)->RecordChoices(batch, 1);
    (*trainer)->Step(batch, number, optim::ReplayUse{core::RouterChoices::Use::kRecord, 0});
    (*trainer)->Step(batch, number + 1, optim::ReplayUse{core::RouterChoices::Use::kReplay, 1});
  };
  step(1);
  step(3);
  const int64_t before = allocations.load();
  step(5);
  EXPECT_EQ(allocations.load() - before, 0);
}

TEST(Decoder, ASteadyStepAllocatesNothing) {
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(testing::TinyConfig(), *device);
  auto decoder = core::Decoder::Create(*model, 3, 40);
  ASSERT_TRUE(decoder.ok()) << decoder.status();
  const int32_t prompt[] = {1, 2, 3, 4}, next[] = {5, 6, -1};
  (*decoder)->Read(1, prompt);
  for (int step = 1; step <= 3; ++step) (*decoder)->Step(next);
  const int64_t before = allocations.load();
  for (int step = 4; step <= 30; ++step) (*decoder)->Step(next);
  EXPECT_EQ(allocations.load() - before, 0);
}

TEST(Trainer, AProfiledStepAllocatesNothing) {
  core::OperationProfile profile{};
  ExpectNoAllocations(SomeBatch(), &profile);
  EXPECT_GT(profile[static_cast<size_t>(core::Operation::kAdamW)].calls, 0);
}

TEST(Trainer, ATracedStepAllocatesNothing) {
  core::Trace trace;
  ExpectNoAllocations(SomeBatch(), nullptr, &trace);
  EXPECT_GT(trace.spans().size(), 100u);
  EXPECT_EQ(trace.num_dropped(), 0);
}

}  // namespace
}  // namespace conclave
