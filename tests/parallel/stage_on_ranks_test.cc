// SPDX-License-Identifier: Apache-2.0
// A whole model whose experts lie on several ranks, several exchanges of it with multi-token prediction, against one
// rank: the same gradients and losses, and the memory that the plan says for the rows that were recorded.
#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "core/model/model.h"
#include "parallel/expert_exchange.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave::parallel::test {
namespace {

using core::DType;
using core::PassMode;
using core::PassShape;

constexpr int64_t kRows = 8;

struct StageResult {
  std::map<std::string, std::vector<int64_t>> sums;  // by Hugging Face name
  std::vector<double> losses;                        // main and prediction ahead, by row
};

// One micro-batch of rows [begin, begin + shape.rows), forward and backward.
void RunStage(const core::Config& config, core::ExchangeFactory make_exchange, int64_t begin, const PassShape& shape,
              StageResult& result) {
  auto device = core::CreateDevice({.name = "cpu", .num_threads = 1});
  ASSERT_TRUE(device.ok());
  auto model = core::Model::Create(config.model, **device,
                                   {.precision = config.ComputePrecision(),
                                    .purpose = core::ParamSet::Purpose::kTraining,
                                    .max_positions = shape.length,
                                    .make_exchange = std::move(make_exchange)});
  ASSERT_TRUE(model.ok()) << model.status();
  (*model)->params().Initialize((*model)->kernels(), 5, 0.3);
  (*model)->Refresh();
  auto runner = core::PassRunner::Create(**model, {shape});
  ASSERT_TRUE(runner.ok()) << runner.status();
  constexpr int64_t kStatisticsBytes = 1 << 14;
  auto memory = (*device)->Allocate(kStatisticsBytes, "statistics");
  ASSERT_TRUE(memory.ok());
  core::Arena step("statistics");
  step.Attach((*memory)->data(), kStatisticsBytes);
  const core::StepStatistics statistics{.loss = step.Allocate(DType::kF64, {2, shape.rows}),
                                        .z_sum = step.Allocate(DType::kF64, {1, shape.rows}),
                                        .balance_loss = step.Allocate(DType::kF64, {2, shape.rows}),
                                        .load = step.Allocate(DType::kI64, {2, config.model.n_routed_experts}),
                                        .log_probs = {}};
  const core::LossWeights weights{.label_scale = 0.01f, .mtp = 0.3f, .balance = 0.01f, .z_loss = 1e-3f};
  const core::Batch batch = testing::RandomBatch(kRows, shape.length, config.model.vocab_size, 3);
  const core::Stage& stage = (*model)->stage();
  core::PassRunner& run = **runner;
  run.Begin(batch, begin, shape);
  stage.Forward(run.lane(), run.pass(), weights, statistics, run.saved());
  stage.BackwardInput(run.lane(), run.pass(), weights, run.saved());
  stage.BackwardWeight(run.lane(), run.pass());
  EXPECT_EQ(run.measured(),
            core::PlanPass(stage, **device, (*model)->stream(), (*model)->kernels(), shape, run.pass().exchange_rows));
  EXPECT_EQ(*(*model)->params().flag().As<int32_t>(), 0);
  for (int64_t i = 0; i < 2 * shape.rows; ++i) result.losses.push_back(statistics.loss.As<double>()[i]);
  for (const auto& param : (*model)->params().params()) {
    for (const core::ParamPart& part : param->spec.parts) {
      if (!param->sum) continue;
      const int64_t* const sum = param->sum.As<int64_t>() + part.offset;
      result.sums[part.hf_name].assign(sum, sum + part.Elements());
    }
  }
}

class ExpertsOnRanks : public ::testing::TestWithParam<std::tuple<std::string, PassMode>> {};

TEST_P(ExpertsOnRanks, GiveGradientsAndLossesOfOneRank) {
  const auto& [precision, mode] = GetParam();
  core::Config config = testing::TinyConfig();
  config.precision = precision;
  const int64_t length = config.data.sequence_length, experts = config.model.n_routed_experts;
  StageResult alone;
  RunStage(config, {}, 0, {.mode = mode, .rows = kRows, .length = length}, alone);
  const std::vector<int64_t> group_rows = {3, 1, 0, 4};
  std::vector<StageResult> ranks(group_rows.size());
  RunRanks(static_cast<int>(group_rows.size()), [&, mode = mode](Comm& world) {
    const auto first = world.Split(world.rank() % 2, "expert_inter");
    const auto second = world.Split(world.rank() / 2, "expert_intra");
    const auto make_exchange = [&](int64_t layer, int64_t index) {
      ExpertPlacement placement = MakeContiguousPlacement(experts, 4);
      if (layer % 2 == 0) std::reverse(placement.rank_of.begin(), placement.rank_of.end());
      return MakeExpertExchange({first.get(), second.get()}, placement, ReturnedRows::kEachChoice, index);
    };
    int64_t begin = 0;
    for (int rank = 0; rank < world.rank(); ++rank) begin += group_rows[rank];
    RunStage(config, make_exchange, begin,
             {.mode = mode, .rows = group_rows[world.rank()], .length = length, .group_rows = group_rows},
             ranks[world.rank()]);
  });
  StageResult all;
  for (int64_t depth = 0; depth < 2; ++depth) {
    for (size_t r = 0; r < ranks.size(); ++r) {
      const auto begin = ranks[r].losses.begin() + depth * group_rows[r];
      all.losses.insert(all.losses.end(), begin, begin + group_rows[r]);
    }
  }
  for (const StageResult& rank : ranks) {
    for (const auto& [name, sum] : rank.sums) {
      std::vector<int64_t>& target = all.sums[name];
      target.resize(sum.size());
      for (size_t i = 0; i < sum.size(); ++i) target[i] += sum[i];
    }
  }
  EXPECT_EQ(all.losses, alone.losses);
  ASSERT_EQ(all.sums.size(), alone.sums.size());
  for (const auto& [name, sum] : alone.sums) EXPECT_TRUE(all.sums[name] == sum) << name;
}

INSTANTIATE_TEST_SUITE_P(Modes, ExpertsOnRanks,
                         ::testing::Combine(::testing::Values("f32", "bf16"),
                                            ::testing::Values(PassMode::kTrain, PassMode::kTrainImmediate)),
                         [](const auto& info) {
                           return std::get<0>(info.param) +
                                  (std::get<1>(info.param) == PassMode::kTrain ? "_deferred" : "_immediate");
                         });

}  // namespace
}  // namespace conclave::parallel::test
