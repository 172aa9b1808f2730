// SPDX-License-Identifier: Apache-2.0
// A short training of a small model over ranks as threads, with slow communicators or a trace: what tests of time
// compare. States of different layouts are compared by optim/layout_check.h.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/trace.h"
#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave::testing {

struct RunSetup {
  core::Config config;
  int ranks = 1;
  int64_t steps = 2;
  std::function<std::unique_ptr<parallel::Comm>(std::unique_ptr<parallel::Comm>)> wrap = {};  // the world, if given
  int64_t trace_capacity = 0;                                                                 // spans; 0: no trace
};

// Two pipeline ranks by two expert ranks, `micros` micro-batches of one row; nothing but MoE blocks exchanges.
inline RunSetup FourRanks(const std::string& schedule, int micros) {
  RunSetup setup{.config = TinyConfig(), .ranks = 4, .steps = 2};
  setup.config.model.num_hidden_layers = 4;
  setup.config.model.first_k_dense_replace = 0;
  setup.config.model.num_nextn_predict_layers = 0;
  setup.config.data.sequence_length = 8;
  setup.config.batch.sequences = 2 * micros;
  setup.config.batch.micro_sequences = 1;
  setup.config.parallel.pipeline = setup.config.parallel.expert = 2;
  setup.config.parallel.schedule = schedule;
  return setup;
}

struct RunResult {
  std::vector<double> figures;    // losses and norms of all steps
  std::string hash;               // of the state of each rank
  double seconds = 0;             // of the fastest step
  parallel::GatheredTrace trace;  // of the steps
};

inline RunResult TrainRank(const RunSetup& setup, parallel::Comm& world) {
  const core::Config& config = setup.config;
  std::unique_ptr<core::Trace> trace;
  if (setup.trace_capacity > 0) trace = std::make_unique<core::Trace>(setup.trace_capacity);
  const std::unique_ptr<parallel::Comm> wrapped = setup.wrap ? setup.wrap(world.Split(0, world.name())) : nullptr;
  auto device = core::CreateDevice({.num_threads = 1});
  auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch),
                                         wrapped ? *wrapped : world, 1, trace.get());
  EXPECT_TRUE(layout.ok()) << layout.status();
  core::Model::Options options{.precision = config.ComputePrecision(),
                               .purpose = core::ParamSet::Purpose::kTraining,
                               .max_positions = config.data.sequence_length};
  (*layout)->Describe(options);
  auto model = core::Model::Create(config.model, **device, options);
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->params().Initialize((*model)->kernels(), static_cast<uint64_t>(config.train.seed), config.train.init_std);
  (*model)->Refresh();
  auto trainer = optim::Trainer::Create(**model, config, **layout);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  RunResult result;
  for (int64_t step = 1; step <= setup.steps; ++step) {
    const core::Batch batch = RandomBatch(config.batch.sequences, config.data.sequence_length, config.model.vocab_size,
                                          static_cast<uint64_t>(step));
    const auto begin = std::chrono::steady_clock::now();
    const optim::StepMetrics metrics = (*trainer)->Step(batch, step);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    result.seconds = step == 1 ? seconds : std::min(result.seconds, seconds);
    result.figures.insert(result.figures.end(), {metrics.loss, metrics.balance_loss, metrics.grad_norm});
  }
  if (trace) result.trace = parallel::GatherTrace(*trace, **layout);
  EXPECT_TRUE((*trainer)->MeasuredAsPlanned());
  result.hash = HashState(**model);
  return result;
}

inline RunResult TrainOnRanks(const RunSetup& setup) {
  std::vector<RunResult> results(setup.ranks);
  parallel::test::RunRanks(setup.ranks,
                           [&](parallel::Comm& world) { results[world.rank()] = TrainRank(setup, world); });
  for (size_t rank = 1; rank < results.size(); ++rank) results[0].hash += results[rank].hash;
  return results[0];
}

// The first run that takes at most `seconds`, of at most five: on a busy machine a rank may wait for its turn. The last
// one if all take longer.
inline RunResult TrainOnRanksWithin(double seconds, const RunSetup& setup) {
  RunResult result = TrainOnRanks(setup);
  for (int run = 1; run < 5 && result.seconds > seconds; ++run) result = TrainOnRanks(setup);
  return result;
}

}  // namespace conclave::testing
