// SPDX-License-Identifier: Apache-2.0
// Recording operations changes no bit, and what it counts is what the memory plan counts before the run.
#include "core/model/memory_plan.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

core::Config EverythingOn(const std::string& precision) {
  core::Config config = testing::TinyConfig();
  config.precision = precision;
  config.batch.micro_sequences = 3;  // the last micro-batch is smaller
  config.optim.ema = 0.99;
  return config;
}

double TotalFlops(const core::OperationProfile& profile) {
  double flops = 0;
  for (const core::OperationRecord& record : profile) flops += record.flops;
  return flops;
}

class ProfiledTraining : public ::testing::TestWithParam<std::string> {};

TEST_P(ProfiledTraining, HasTheBitsOfTrainingWithoutIt) {
  core::OperationProfile profile{};
  const core::Config config = EverythingOn(GetParam());
  const testing::TrainedState plain = testing::Train({.config = config});
  const testing::TrainedState profiled = testing::Train({.config = config, .profile = &profile});
  EXPECT_EQ(profiled.hash, plain.hash);
  EXPECT_EQ(profiled.figures, plain.figures);
  EXPECT_EQ(profile[static_cast<size_t>(core::Operation::kLinearCrossEntropy)].calls,
            3 * 3 * 2);  // steps, parts, heads
}

TEST_P(ProfiledTraining, CountsTheFlopsThatTheMemoryPlanCounts) {
  core::OperationProfile profile{};
  const core::Config config = EverythingOn(GetParam());
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device, &profile);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok()) << trainer.status();
  double planned = 0;  // a sum of integers below 2^53: exact in any order
  for (const int64_t rows : {3, 3, 2}) {
    planned += core::PlanPass(model->stage(), model->device(), model->stream(), model->kernels(), {core::PassMode::kTrainImmediate, rows, 40}).flops;
  }
  profile.fill({});
  (*trainer)->Step(testing::RandomBatch(8, 40, 97, 1), 1);
  EXPECT_EQ(TotalFlops(profile), planned);
  EXPECT_GT(planned, 0);
}

INSTANTIATE_TEST_SUITE_P(Precisions, ProfiledTraining, ::testing::Values("f32", "bf16"));

}  // namespace
}  // namespace conclave
