// SPDX-License-Identifier: Apache-2.0
// `exact: false` and moments in bf16. Without exactness a training is near the exact one, in any layout, and it is
// another one; with small moments every law holds as before.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/checkpoint/checkpoint.h"
#include "optim/layout_check.h"
#include "optim/sum_error.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

using optim::LayoutChoice;
using optim::LayoutOutcome;
using testing::RandomBatch;
using testing::TrainingSetup;

constexpr size_t kFiguresOfStep = 6;  // of TrainedState: loss, two more, total loss, norm, imbalance
constexpr size_t kNorm = 4;

core::Config Small() {
  core::Config config = testing::TinyConfig();
  config.model.num_hidden_layers = 4;
  return config;
}

absl::StatusOr<LayoutOutcome> TrainInLayout(const core::Config& config, const LayoutChoice& choice) {
  return optim::RunLayout(
      {.config = config,
       .model = config.model,
       .steps = 2,
       .batch =
           [&](int64_t step) {
             return RandomBatch(config.batch.sequences, config.data.sequence_length, config.model.vocab_size,
                                static_cast<uint64_t>(step));
           },
       .initialize =
           [&](core::Model& model) {
             model.params().Initialize(model.kernels(), static_cast<uint64_t>(config.train.seed), config.train.init_std);
             return absl::OkStatus();
           }},
      choice);
}

// The first step sees the same weights: losses and the norm differ by rounding alone. Later ones follow from weights
// that have moved by what Adam makes of a rounding error where a gradient is almost 0: up to lr, in few places.
void ExpectNear(const std::vector<double>& got, const std::vector<double>& exact) {
  ASSERT_EQ(got.size(), exact.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double tolerance = i < kFiguresOfStep ? 1e-6 : 1e-2;
    EXPECT_NEAR(got[i], exact[i], tolerance * std::fabs(exact[i])) << "figure " << i;
  }
}

TEST(InexactTraining, IsNearTheExactOne) {
  for (const char* precision : {"f32", "bf16"}) {
    TrainingSetup setup;
    setup.config.precision = precision;
    const testing::TrainedState exact = testing::Train(setup);
    setup.config.exact = false;
    const testing::TrainedState inexact = testing::Train(setup);
    ExpectNear(inexact.figures, exact.figures);
    EXPECT_EQ(inexact.figures[0], exact.figures[0]) << "on one rank the first forward pass is the same";
    EXPECT_NE(inexact.hash, exact.hash) << "sums of floats do not have the bits of sums of integers";
  }
}

TEST(InexactTraining, IsNearTheExactOneInEveryLayout) {
  core::Config config = Small();
  const auto exact = TrainInLayout(config, {});
  ASSERT_TRUE(exact.ok()) << exact.status();
  config.exact = false;
  for (const auto& [ranks, pipeline, expert, zero] :
       {std::tuple{2, 1, 1, 1}, {2, 1, 2, 1}, {2, 2, 1, 1}, {4, 2, 2, 1}, {4, 1, 2, 2}}) {
    LayoutChoice choice{.ranks = ranks};
    choice.parallel.pipeline = pipeline;
    choice.parallel.expert = expert;
    choice.parallel.zero = zero;
    SCOPED_TRACE(choice.Text());
    const auto inexact = TrainInLayout(config, choice);
    ASSERT_TRUE(inexact.ok()) << inexact.status();
    ExpectNear(inexact->figures, exact->figures);
    EXPECT_NE(inexact->hash, exact->hash);
    EXPECT_TRUE(inexact->memory_as_planned);
  }
}

TEST(InexactTraining, TakesHalfTheMemoryForGradients) {
  auto device = testing::MakeDevice("", 1);
  core::Config config = testing::TinyConfig();
  const auto bytes = [&](std::string_view begin) {
    const auto model = testing::MakeTrainingModel(config, *device);
    for (const core::ParamSet::MemoryRow& row : model->params().memory()) {
      if (std::string_view(row.name).starts_with(begin)) return row.bytes;
    }
    return int64_t{0};
  };
  // Tensors begin at multiples of 128 bytes.
  const int64_t slack = 200 * 128, exact = bytes("gradients (64-bit"), moments = bytes("optimizer");
  config.exact = false;
  config.optim.moments = "bf16";
  EXPECT_NEAR(bytes("gradients (f32"), exact / 2, slack);
  EXPECT_NEAR(bytes("optimizer"), moments / 2, slack);
  EXPECT_GT(exact / 2, 4 * slack);
}

TEST(InexactTraining, AVoidStepChangesNothing) {
  core::Config config = testing::TinyConfig();
  config.exact = false;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok());
  const std::string before = testing::HashState(*model);
  const auto& params = model->params().params();
  const auto down = std::find_if(params.begin(), params.end(),
                                 [](const auto& param) { return param->spec.name == "layers.0.mlp.down"; });
  float* const weight = (*down)->master.As<float>();
  const float kept = *weight;
  *weight = INFINITY;  // in the panels only
  model->Refresh();
  *weight = kept;
  EXPECT_FALSE((*trainer)->Step(RandomBatch(8, 40, 97, 2), 1).finite);
  EXPECT_EQ(testing::HashState(*model), before);
  for (const auto& each : params) {
    for (int64_t i = 0; each->sum && i < each->spec.Elements(); ++i) ASSERT_EQ(each->sum.As<float>()[i], 0);
  }
}

TEST(SumError, IsThatOfTheGradientsAndLeavesNothingBehind) {
  core::Config config = testing::TinyConfig();
  config.exact = false;
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok());
  const auto alone = parallel::MakeSelfComm();
  const core::Batch batch = RandomBatch(8, 40, 97, 1);
  const auto error = optim::MeasureSumError(**trainer, *model, *alone, batch);
  ASSERT_TRUE(error.ok()) << error.status();
  // f32 rounds to 2^-24, in each of at most 8 additions of contributions of one sign.
  EXPECT_GT(error->difference, 0);
  EXPECT_LT(error->difference, 8 * 0x1p-24 * error->exact_norm);
  EXPECT_NEAR(error->float_norm, error->exact_norm, error->difference);
  EXPECT_EQ(error->compared, model->params().Elements());
  EXPECT_EQ(error->elements, error->compared);
  EXPECT_TRUE((*trainer)->MeasuredAsPlanned());
  // A run that was measured goes on as one that was not; its norm is the one that was measured.
  const optim::StepMetrics metrics = (*trainer)->Step(batch, 1);
  EXPECT_NEAR(metrics.grad_norm, error->float_norm, 1e-12 * metrics.grad_norm);
  auto other_model = testing::MakeTrainingModel(config, *device);
  auto other = optim::Trainer::Create(*other_model, config);
  (*other)->Step(batch, 1);
  EXPECT_EQ(testing::HashState(*model), testing::HashState(*other_model));
}

// What one rank trains with.
struct Rank {
  std::unique_ptr<core::Device> device;
  std::unique_ptr<parallel::Layout> layout;
  std::unique_ptr<core::Model> model;
  std::unique_ptr<optim::Trainer> trainer;
};

Rank MakeRank(const core::Config& config, parallel::Comm& world) {
  Rank rank{.device = testing::MakeDevice("", 1)};
  auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), world, 1);
  EXPECT_TRUE(layout.ok()) << layout.status();
  rank.layout = std::move(*layout);
  core::Model::Options options{.purpose = core::ParamSet::Purpose::kTraining,
                               .training = core::TrainingStateOf(config),
                               .max_positions = config.data.sequence_length};
  rank.layout->Describe(options);
  auto model = core::Model::Create(config.model, *rank.device, options);
  EXPECT_TRUE(model.ok()) << model.status();
  rank.model = std::move(*model);
  rank.model->params().Initialize(rank.model->kernels(), 1, config.train.init_std);
  rank.model->Refresh();
  auto trainer = optim::Trainer::Create(*rank.model, config, *rank.layout);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  rank.trainer = std::move(*trainer);
  return rank;
}

core::Config OverExpertRanks() {
  core::Config config = testing::TinyConfig();
  config.parallel.expert = 2;
  return config;
}

TEST(SumError, IsTheSameOnAllRanks) {
  parallel::test::RunRanks(2, [](parallel::Comm& world) {
    core::Config config = OverExpertRanks();
    config.exact = false;
    const Rank rank = MakeRank(config, world);
    const auto error = optim::MeasureSumError(*rank.trainer, *rank.model, world, RandomBatch(8, 40, 97, 1));
    ASSERT_TRUE(error.ok()) << error.status();
    EXPECT_GT(error->difference, 0);
    EXPECT_LT(error->difference, 1e-6 * error->exact_norm);
    EXPECT_EQ(error->compared, error->elements);
    const std::vector<std::string> texts = world.GatherTexts(optim::SumErrorText(*error));
    EXPECT_EQ(texts[0], texts[1]);
  });
}

TEST(SumError, OfAGradientThatIsNotFiniteIsAnErrorOnAllRanks) {
  parallel::test::RunRanks(2, [](parallel::Comm& world) {
    core::Config config = OverExpertRanks();
    config.exact = false;
    const Rank rank = MakeRank(config, world);
    core::Param& first = *rank.model->params().params().front();
    if (world.rank() == 1) std::fill_n(first.master.As<float>(), first.spec.Elements(), INFINITY);
    rank.model->Refresh();
    const auto error = optim::MeasureSumError(*rank.trainer, *rank.model, world, RandomBatch(8, 40, 97, 1));
    EXPECT_EQ(error.status().code(), absl::StatusCode::kFailedPrecondition);
    for (const auto& param : rank.model->params().params()) {
      for (int64_t i = 0; param->sum && i < param->spec.Elements(); ++i) ASSERT_EQ(param->sum.As<float>()[i], 0);
    }
  });
}

// With four experts a token on two ranks, four rows come home one by one, but at most two sums.
TEST(InexactTraining, SumsTheRowsOfATokenBeforeTheyTravelHome) {
  parallel::test::RunRanks(2, [](parallel::Comm& world) {
    core::Config config = OverExpertRanks();
    config.model.n_group = config.model.topk_group = 1;
    config.model.num_experts_per_tok = 4;
    const int64_t one_by_one = MakeRank(config, world).trainer->planned_memory().until_block_end;
    config.exact = false;
    EXPECT_LT(MakeRank(config, world).trainer->planned_memory().until_block_end, one_by_one);
  });
}

core::Config WithBf16Moments() {
  core::Config config = Small();
  config.optim.moments = "bf16";
  return config;
}

TEST(Bf16Moments, KeepTheLawsOfMicroBatchesThreadsAndLayouts) {
  const auto one = TrainInLayout(WithBf16Moments(), {}), f32 = TrainInLayout(Small(), {});
  ASSERT_TRUE(one.ok() && f32.ok());
  EXPECT_NE(one->hash, f32->hash);
  for (const auto& [ranks, pipeline, expert, threads, micro] :
       {std::tuple{1, 1, 1, 3, 3}, {2, 1, 1, 1, 0}, {2, 1, 2, 1, 0}, {2, 2, 1, 1, 0}}) {
    LayoutChoice choice{.ranks = ranks, .threads = threads, .micro_rows = micro};
    choice.parallel.pipeline = pipeline;
    choice.parallel.expert = expert;
    const auto other = TrainInLayout(WithBf16Moments(), choice);
    ASSERT_TRUE(other.ok()) << choice.Text() << ": " << other.status();
    EXPECT_EQ(other->hash, one->hash) << choice.Text();
    EXPECT_EQ(other->figures, one->figures) << choice.Text();
  }
}

TEST(Bf16Moments, ComeBackFromACheckpointWithTheSameBits) {
  const std::string parent = ::testing::TempDir() + "/bf16_moments";
  std::filesystem::remove_all(parent);
  const core::Config config = WithBf16Moments();
  auto device = testing::MakeDevice("", 2);
  const auto step = [&](core::Model& model, int64_t number) {
    auto trainer = optim::Trainer::Create(model, config);
    EXPECT_TRUE((*trainer)->Step(RandomBatch(8, 40, 97, static_cast<uint64_t>(number)), number).finite);
  };
  auto model = testing::MakeTrainingModel(config, *device);
  step(*model, 1);
  const auto path = core::SaveCheckpoint({.parent = parent,
                                          .meta = {.step = 1},
                                          .weights = optim::HfWeights(*model),
                                          .keep_f32 = optim::RouterBiasNames(*model),
                                          .optimizer = optim::OptimizerTensors(*model)});
  ASSERT_TRUE(path.ok()) << path.status();
  auto resumed = testing::MakeTrainingModel(config, *device);
  const absl::Status restored = core::RestoreState(*path, optim::RestoredTensors(*resumed));
  ASSERT_TRUE(restored.ok()) << restored;
  resumed->Refresh();
  EXPECT_EQ(testing::HashState(*resumed), testing::HashState(*model));
  step(*model, 2);
  step(*resumed, 2);
  EXPECT_EQ(testing::HashState(*resumed), testing::HashState(*model));

  const auto tensors = core::ListState(*path);
  ASSERT_TRUE(tensors.ok());
  int moments = 0;
  for (const core::StateTensor& tensor : *tensors) {
    const bool moment = tensor.name.starts_with("optimizer.m.") || tensor.name.starts_with("optimizer.v.");
    moments += moment;
    if (tensor.name.starts_with("optimizer.")) {
      EXPECT_EQ(tensor.dtype, moment ? core::DType::kBf16 : core::DType::kF32) << tensor.name;
    }
  }
  EXPECT_GT(moments, 0);
  const core::Config f32 = Small();
  auto other = testing::MakeTrainingModel(f32, *device);
  EXPECT_FALSE(core::RestoreState(*path, optim::RestoredTensors(*other)).ok()) << "moments of another type";
}

}  // namespace
}  // namespace conclave
