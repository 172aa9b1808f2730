// SPDX-License-Identifier: Apache-2.0
// What ranks hold of the weights of a folder: together those of one rank, each whole wherever it is.
#include "optim/weights.h"

#include <algorithm>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave {
namespace {

struct Held {
  std::multiset<std::string> weights, router_biases;  // once for each rank
};

Held HeldBy(const core::Config& config, int ranks) {
  Held held;
  std::mutex mutex;
  parallel::test::RunRanks(ranks, [&](parallel::Comm& world) {
    auto device = core::CreateDevice({.num_threads = 1});
    auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), world, 1);
    ASSERT_TRUE(layout.ok()) << layout.status();
    core::Model::Options options{.purpose = core::ParamSet::Purpose::kTraining};
    (*layout)->Describe(options);
    const auto model = core::Model::Create(config.model, **device, options);
    ASSERT_TRUE(model.ok()) << model.status();
    const std::lock_guard lock(mutex);
    for (const core::StateTensor& weight : optim::HfWeights(**model)) {
      EXPECT_EQ(std::vector<int64_t>(weight.box.sizes.begin(), weight.box.sizes.begin() + weight.box.rank),
                weight.shape)
          << weight.name;
      held.weights.insert(weight.name);
    }
    for (const std::string& name : optim::RouterBiasNames(**model)) held.router_biases.insert(name);
  });
  return held;
}

std::vector<std::string> Names(const std::multiset<std::string>& names) {
  std::vector<std::string> list(names.begin(), names.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

TEST(HfWeights, OfAllRanksAreThoseOfOne) {
  core::Config config = testing::TinyConfig();
  config.model.num_hidden_layers = 4;
  const Held one = HeldBy(config, 1);
  EXPECT_EQ(Names(one.weights).size(), one.weights.size());
  EXPECT_TRUE(one.weights.contains("model.layers.4.shared_head.head.weight"));
  config.parallel.pipeline = config.parallel.expert = 2;
  const Held four = HeldBy(config, 4);
  EXPECT_EQ(Names(four.weights), Names(one.weights));
  EXPECT_EQ(Names(four.router_biases), Names(one.router_biases));
  // An expert is on one rank, what all ranks of a stage share on both, and so are the copies of embedding and head.
  EXPECT_EQ(four.weights.count("model.layers.1.mlp.experts.5.up_proj.weight"), 1u);
  EXPECT_EQ(four.weights.count("model.layers.1.mlp.gate.weight"), 2u);
  EXPECT_EQ(four.weights.count("model.layers.4.embed_tokens.weight"), 2u);
}

}  // namespace
}  // namespace conclave
