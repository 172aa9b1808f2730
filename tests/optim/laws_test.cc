// SPDX-License-Identifier: Apache-2.0
// The laws of training, on a tiny model with everything on: no split into micro-batches, number of threads, instruction
// set or time of the weight gradients changes a bit of the state.
#include <algorithm>
#include <cmath>

#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

using testing::RandomBatch;
using testing::TinyConfig;
using testing::Train;
using testing::TrainedState;
using testing::TrainingSetup;

TrainingSetup SetupFor(const std::string& precision) {
  TrainingSetup setup;
  setup.config.precision = precision;
  return setup;
}

class TrainingLaws : public ::testing::TestWithParam<std::string> {};

TEST_P(TrainingLaws, MicroBatchesNeverChangeABit) {
  TrainingSetup setup = SetupFor(GetParam());
  const TrainedState whole = Train(setup);
  for (int64_t micro : {1, 2, 3, 4, 5}) {
    setup.config.batch.micro_sequences = micro;
    const TrainedState split = Train(setup);
    EXPECT_EQ(split.hash, whole.hash) << "micro-batches of " << micro;
    EXPECT_EQ(split.figures, whole.figures) << "micro-batches of " << micro;
  }
}

TEST_P(TrainingLaws, ThreadsNeverChangeABit) {
  TrainingSetup setup = SetupFor(GetParam());
  setup.threads = 1;
  const TrainedState one = Train(setup);
  for (int threads : {2, 3, 8}) {
    setup.threads = threads;
    const TrainedState many = Train(setup);
    EXPECT_EQ(many.hash, one.hash) << threads << " threads";
    EXPECT_EQ(many.figures, one.figures) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, TrainingLaws, ::testing::Values("f32", "bf16"));

TEST(MachineLaw, InstructionSetsNeverChangeABitInF32) {
  TrainingSetup setup = SetupFor("f32");
  setup.target = "portable";
  const TrainedState portable = Train(setup);
  ASSERT_FALSE(portable.hash.empty());
  int compared = 0;
  for (const char* target : {"avx2", "avx512", "avx512_bf16", "amx"}) {
    setup.target = target;
    const TrainedState other = Train(setup);
    if (other.hash.empty()) continue;  // not on this machine
    ++compared;
    EXPECT_EQ(other.hash, portable.hash) << target;
    EXPECT_EQ(other.figures, portable.figures) << target;
  }
  if (compared == 0) GTEST_SKIP() << "this machine has no AVX2";
}

TEST(WeightGradTasks, DeferredEqualsImmediate) {
  for (const char* precision : {"f32", "bf16"}) {
    core::Config config = TinyConfig();
    config.precision = precision;
    auto device = testing::MakeDevice("", 2);
    std::vector<std::string> hashes;
    for (core::PassMode mode : {core::PassMode::kTrainImmediate, core::PassMode::kTrain}) {
      auto model = testing::MakeTrainingModel(config, *device);
      const core::Batch batch = RandomBatch(4, 40, 97, 5);
      const core::PassShape shape{mode, 4, 40};
      auto runner = core::PassRunner::Create(*model, {shape});
      ASSERT_TRUE(runner.ok());
      core::Arena step("step");
      auto memory = device->Allocate(1 << 16, "step");
      ASSERT_TRUE(memory.ok());
      step.Attach((*memory)->data(), 1 << 16);
      core::StepStatistics statistics{.loss = step.Allocate(core::DType::kF64, {2, 4}),
                                      .z_sum = step.Allocate(core::DType::kF64, {1, 4}),
                                      .balance_loss = step.Allocate(core::DType::kF64, {2, 4}),
                                      .load = step.Allocate(core::DType::kI64, {2, 6}),
                                      .log_probs = {}};
      const core::LossWeights weights{.label_scale = 0.01f, .mtp = 0.3f, .balance = 0.01f, .z_loss = 0};
      (*runner)->Begin(batch, 0, shape);
      const core::Stage& stage = model->stage();
      stage.Forward((*runner)->lane(), (*runner)->pass(), weights, statistics, (*runner)->saved());
      stage.BackwardInput((*runner)->lane(), (*runner)->pass(), weights, (*runner)->saved());
      EXPECT_EQ((*runner)->pass().tasks.tasks().empty(), mode == core::PassMode::kTrainImmediate);
      stage.BackwardWeight((*runner)->lane(), (*runner)->pass());
      EXPECT_TRUE((*runner)->MeasuredAsPlanned());
      core::Hasher hasher;
      for (const auto& param : model->params().params()) {
        if (param->sum) hasher.Update(param->sum.data, static_cast<size_t>(param->sum.Bytes()));
      }
      hashes.push_back(hasher.HexDigest());
    }
    EXPECT_EQ(hashes[0], hashes[1]) << precision;
  }
}

// The analytic gradient, projected on a random direction, against central differences of the total loss: both in f32,
// so only agreement to about 1e-2 can be asked; the comparison with PyTorch (verify) asks for 2e-5.
TEST(Trainer, GradientIsTheDerivativeOfTheTotalLoss) {
  core::Config config = TinyConfig();
  config.moe.bias_update_speed = 0;
  config.train.init_std = 0.15;
  // Every token visits every expert: a change of choice would be a jump of the loss, which has no derivative.
  config.model.n_routed_experts = config.model.num_experts_per_tok = 3;
  config.model.num_nextn_predict_layers = 2;
  config.model.n_group = config.model.topk_group = 1;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok());
  const core::Batch batch = RandomBatch(8, 40, 97, 9);
  (*trainer)->Backward(batch);
  std::vector<std::vector<float>> masters;
  double slope = 0;
  uint64_t tensor = 0;
  for (const auto& param : model->params().params()) {
    const float* master = param->master.As<float>();
    masters.emplace_back(master, master + param->spec.Elements());
    if (!param->sum) continue;
    const uint64_t key = core::RandomKey(3, core::RandomPurpose::kTest, ++tensor);
    for (int64_t i = 0; i < param->spec.Elements(); ++i) {
      slope += core::StandardNormal(key, i) * static_cast<double>(param->sum.As<int64_t>()[i]) * 0x1p-50;
    }
  }
  (*trainer)->ClearGradients();
  auto loss_at = [&](double h) {
    uint64_t index = 0;
    size_t p = 0;
    for (const auto& param : model->params().params()) {
      const std::vector<float>& master = masters[p++];
      if (!param->sum) continue;
      const uint64_t key = core::RandomKey(3, core::RandomPurpose::kTest, ++index);
      for (int64_t i = 0; i < param->spec.Elements(); ++i) {
        param->master.As<float>()[i] = static_cast<float>(master[i] + h * core::StandardNormal(key, i));
      }
    }
    model->Refresh();
    core::Config frozen = config;
    frozen.optim.lr = 0;
    frozen.optim.weight_decay = 0;
    auto probe = optim::Trainer::Create(*model, frozen);
    return (*probe)->Step(batch, 1).total_loss;
  };
  const double h = 2e-4;
  const double difference = (loss_at(h) - loss_at(-h)) / (2 * h);
  EXPECT_NEAR(difference, slope, 0.02 * std::fabs(slope) + 1e-3);
}

TEST(Trainer, AVoidStepChangesNothing) {
  core::Config config = TinyConfig();
  config.optim.ema = 0.9;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok());
  (*trainer)->StartEma();
  (*trainer)->Step(RandomBatch(8, 40, 97, 1), 1);
  const std::string before = testing::HashState(*model);
  // A weight that makes the activations infinite, in the panels only.
  const auto& params = model->params().params();
  core::Param& param =
      **std::find_if(params.begin(), params.end(), [](const auto& p) { return p->spec.name == "layers.0.mlp.down"; });
  const float kept = param.master.As<float>()[0];
  param.master.As<float>()[0] = INFINITY;
  model->Refresh();
  param.master.As<float>()[0] = kept;
  EXPECT_FALSE((*trainer)->Step(RandomBatch(8, 40, 97, 2), 2).finite);
  EXPECT_EQ(testing::HashState(*model), before);
  for (const auto& each : model->params().params()) {
    for (int64_t i = 0; each->sum && i < each->spec.Elements(); ++i) ASSERT_EQ(each->sum.As<int64_t>()[i], 0);
  }
}

TEST(Batch, RampGrowsInWholeMicroBatches) {
  core::BatchConfig batch;
  batch.sequences = 12;
  batch.micro_sequences = 4;
  batch.ramp = {.start = 4, .steps = 6};
  int64_t position = 0;
  for (int64_t step = 1; step <= 10; ++step) {
    EXPECT_EQ(optim::PositionOfStep(batch, step), position);
    const int64_t rows = optim::RowsOfStep(batch, step);
    EXPECT_EQ(rows % 4, 0);
    EXPECT_GE(rows, 4);
    position += rows;
  }
  EXPECT_EQ(optim::RowsOfStep(batch, 1), 4);
  EXPECT_EQ(optim::RowsOfStep(batch, 7), 12);
}

}  // namespace
}  // namespace conclave
