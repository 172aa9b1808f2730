// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of a batch: the trainer's loss, token by token, and the same bits on every rank of every layout.
#include "optim/log_probs.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

constexpr float kTemperature = 1.3f;

core::Config ConfigFor(int64_t rows) {
  core::Config config = testing::TinyConfig();
  config.model.num_hidden_layers = 4;
  config.batch.sequences = rows;
  config.batch.micro_sequences = 1;
  return config;
}

core::Batch BatchFor(const core::Config& config, int64_t rows) {
  return testing::RandomBatch(rows, config.data.sequence_length, config.model.vocab_size, 3);
}

// Those of batches of the given rows, one after the other, with a model that holds weights alone.
std::vector<float> ComputeOnRank(const core::Config& config, const std::vector<int64_t>& batches,
                                 parallel::Comm& world) {
  auto device = core::CreateDevice({.num_threads = 1});
  auto layout = parallel::Layout::Create(config, config.model, {config.batch.sequences}, world, 1);
  EXPECT_TRUE(layout.ok()) << layout.status();
  core::Model::Options options{.precision = config.ComputePrecision(), .max_positions = config.data.sequence_length};
  (*layout)->Describe(options);
  auto model = core::Model::Create(config.model, **device, options);
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->params().Initialize((*model)->kernels(), 1, config.train.init_std);
  (*model)->Refresh();
  auto log_probs = optim::LogProbs::Create(**model, **layout, config.batch.sequences);
  EXPECT_TRUE(log_probs.ok()) << log_probs.status();
  std::vector<float> all;
  for (const int64_t rows : batches) {
    const core::Batch batch = BatchFor(config, rows);
    std::vector<float> out(batch.tokens.size(), NAN);
    (*log_probs)->Compute(batch, kTemperature, out);
    all.insert(all.end(), out.begin(), out.end());
  }
  return all;
}

TEST(LogProbs, AreTheSameBitsOnEveryRankOfEveryLayout) {
  const std::vector<int64_t> batches = {7, 2, 7, 0};  // some ranks have no row of the second
  core::Config config = ConfigFor(7);
  const std::unique_ptr<parallel::Comm> alone = parallel::MakeSelfComm();
  const std::vector<float> one = ComputeOnRank(config, batches, *alone);
  for (const auto& [ranks, pipeline, expert, schedule] :
       {std::tuple{2, 1, 2, "1f1b"}, {2, 2, 1, "dualpipev"}, {4, 2, 2, "zbv"}, {4, 1, 4, "1f1b"}, {3, 3, 1, "1f1b"}}) {
    config.parallel.pipeline = pipeline;
    config.parallel.expert = expert;
    config.parallel.schedule = schedule;
    std::vector<std::vector<float>> results(ranks);
    parallel::test::RunRanks(
        ranks, [&](parallel::Comm& world) { results[world.rank()] = ComputeOnRank(config, batches, world); });
    for (const std::vector<float>& result : results) {
      ASSERT_EQ(result.size(), one.size());
      EXPECT_EQ(std::memcmp(result.data(), one.data(), one.size() * sizeof(float)), 0) << schedule << " " << ranks;
    }
  }
}

TEST(LogProbs, AreTheLossOfEvaluationByToken) {
  const core::Config config = ConfigFor(5);
  const core::Batch batch = BatchFor(config, 5);
  auto device = testing::MakeDevice("", 2);
  auto model = testing::MakeTrainingModel(config, *device);
  auto trainer = optim::Trainer::Create(*model, config);
  ASSERT_TRUE(trainer.ok());
  const std::unique_ptr<parallel::Comm> alone = parallel::MakeSelfComm();
  const std::vector<float> log_probs = ComputeOnRank(config, {5}, *alone);
  double sum = 0;
  for (size_t i = 0; i < log_probs.size(); ++i) {
    EXPECT_EQ(log_probs[i] < 0, batch.labels[i] >= 0);
    sum -= static_cast<double>(log_probs[i]);
  }
  EXPECT_NEAR((*trainer)->Evaluate(batch, kTemperature).loss, sum, 1e-4);
  EXPECT_GT(std::fabs((*trainer)->Evaluate(batch).loss - sum), 1);  // at temperature 1 it is another number
}

}  // namespace
}  // namespace conclave
