// SPDX-License-Identifier: Apache-2.0
#include "parallel/executor.h"

#include "parallel/delay_comm.h"
#include "parallel/simulate.h"
#include "tests/support/train_on_ranks.h"

namespace conclave::parallel {
namespace {

using testing::RunResult;
using testing::RunSetup;
using testing::TrainOnRanks;

// What ranks compute is sleep: exchanges of tokens that take long.
TEST(Executor, HidesTransfersBehindCells) {
  constexpr double kExchange = 6e-3, kTransfer = 11e-3;
  constexpr int kMicros = 8;
  RunSetup setup = testing::FourRanks("dualpipev", kMicros);
  setup.config.parallel.overlap = false;
  const auto delay = [&](double transfer) {
    return [=](std::unique_ptr<Comm> world) {
      auto slow = MakeDelayComm(std::move(world), {.seconds_per_operation = kExchange, .group = "expert"});
      return MakeDelayComm(std::move(slow), {.seconds_per_operation = transfer, .group = "pipeline"});
    };
  };
  setup.wrap = delay(0);
  const RunResult fast = TrainOnRanks(setup);
  const StageCost cost{.forward = 3 * kExchange, .backward_input = 2 * kExchange, .backward_weight = 0};
  const double model = Simulate(*MakeSchedule("dualpipev", {2, kMicros, 1}), {.stages = {cost}}).makespan;
  const double limit = 1.15 * model + 2 * kTransfer;  // until the first arrives, and until the last is sent
  setup.wrap = delay(kTransfer);
  const RunResult slow = testing::TrainOnRanksWithin(limit, setup);
  EXPECT_EQ(slow.hash, fast.hash);
  RecordProperty("slow_to_model", std::to_string(slow.seconds / model));
  RecordProperty("fast_to_model", std::to_string(fast.seconds / model));
  EXPECT_LE(slow.seconds, limit);
}

// A schedule that keeps more micro-batches than it said would be a bug of ours.
TEST(ExecutorDeathTest, EndsTheJobWhenASlotIsMissing) {
  const core::Config config = testing::TinyConfig();
  auto device = core::CreateDevice({.num_threads = 1});
  const auto model = testing::MakeTrainingModel(config, **device);
  const core::PassShape shape{core::PassMode::kTrain, 1, config.data.sequence_length, true};
  const core::Stage& stage = model->stage();
  const auto plan = core::PlanPass(stage, **device, model->stream(), model->kernels(), shape);
  const auto slots = PassSlots::Create(*model, stage, plan, {.until_input_grad = 1, .until_weight_grad = 2});
  ASSERT_TRUE(slots.ok()) << slots.status();
  (*slots)->Acquire(0, shape);
  EXPECT_DEATH((*slots)->Acquire(1, shape), "pass_slots.cc:[0-9]+: CHECK failed: .*free_input_memory");
  EXPECT_DEATH((*slots)->Find(1), "pass_slots.cc:[0-9]+: CHECK failed");
}

}  // namespace
}  // namespace conclave::parallel
