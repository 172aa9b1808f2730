// SPDX-License-Identifier: Apache-2.0
// The cuts of layers into stages and of rows into micro-batches.
#include "parallel/partition.h"

#include <gtest/gtest.h>

#include "core/base/rng.h"

namespace conclave::parallel {
namespace {

// The cost of the dearest stage.
double Dearest(const std::vector<core::StagePart>& parts, const std::vector<double>& costs, double embedding, double loss) {
  double dearest = 0;
  for (const core::StagePart& part : parts) {
    double cost = (part.embedding ? embedding : 0) + (part.loss ? loss : 0);
    for (int64_t i = 0; i < part.num_blocks; ++i) cost += costs[part.first_block + i];
    dearest = std::max(dearest, cost);
  }
  return dearest;
}

// The least possible, by trying every cut.
double LeastDearest(const std::vector<double>& costs, size_t begin, int stages, double loss) {
  double cost = 0, best = 1e300;
  if (stages == 1) {
    for (size_t i = begin; i < costs.size(); ++i) cost += costs[i];
    return cost + loss;
  }
  for (size_t end = begin + 1; end + stages - 1 <= costs.size(); ++end) {
    cost += costs[end - 1];
    best = std::min(best, std::max(cost, LeastDearest(costs, end, stages - 1, loss)));
  }
  return best;
}

TEST(CutIntoStages, MakesTheDearestStageAsCheapAsCanBe) {
  for (uint64_t trial = 0; trial < 60; ++trial) {
    const auto draw = core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 7), 0, 0);
    const int layers = 1 + static_cast<int>(draw[0] % 9), stages = 1 + static_cast<int>(draw[1] % layers);
    std::vector<double> costs;
    for (int i = 0; i < layers; ++i) {
      costs.push_back(1 + core::Philox(core::RandomKey(trial, core::RandomPurpose::kTest, 8), i, 0)[0] % 5);
    }
    const double loss = static_cast<double>(draw[2] % 6);
    const auto parts = CutIntoStages(costs, 0, loss, stages);
    ASSERT_TRUE(parts.ok()) << parts.status();
    ASSERT_EQ(parts->size(), static_cast<size_t>(stages));
    int64_t next = 0;
    for (const core::StagePart& part : *parts) {
      EXPECT_EQ(part.first_block, next);
      EXPECT_GE(part.num_blocks, 1);
      EXPECT_EQ(part.embedding, next == 0);
      next += part.num_blocks;
      EXPECT_EQ(part.loss, next == layers);
    }
    EXPECT_EQ(next, layers);
    EXPECT_EQ(Dearest(*parts, costs, 0, loss), LeastDearest(costs, 0, stages, loss)) << "trial " << trial;
  }
}

TEST(CutIntoStages, GivesTheLastStageFewerBlocksForHeadAndPrediction) {
  core::ModelConfig config;
  config.vocab_size = 4096;
  config.hidden_size = 64;
  config.num_hidden_layers = 12;
  config.num_nextn_predict_layers = 1;
  config.max_position_embeddings = 128;
  const auto parts = CutIntoStages(config, 128, 4);
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_LT(parts->back().num_blocks, parts->front().num_blocks);
}

TEST(CutIntoStages, RefusesMoreStagesThanLayers) {
  const auto parts = CutIntoStages({1, 1, 1}, 0, 0, 4);
  EXPECT_EQ(parts.status().message(),
            "4 pipeline stages are more than the model's 3 layers; lower parallel.pipeline or parallel.virtual_stages");
}

TEST(BatchSplit, DealsEveryRowOnceInOrder) {
  for (const int64_t rows : {1, 2, 7, 47, 48}) {
    for (const int64_t ranks : {1, 2, 3, 5, 8}) {
      for (const int64_t micro : {1, 2, 5, 100}) {
        const BatchSplit split{rows, ranks, micro};
        int64_t next = 0;
        for (int64_t rank = 0; rank < ranks; ++rank) {
          for (int64_t i = 0; i < split.NumMicro(); ++i) {
            const int64_t count = split.MicroRows(rank, i);
            if (count == 0) continue;
            EXPECT_EQ(split.MicroBegin(rank, i), next);
            next += count;
          }
        }
        EXPECT_EQ(next, rows) << rows << " rows, " << ranks << " ranks, micro-batches of " << micro;
      }
    }
  }
}

}  // namespace
}  // namespace conclave::parallel
