// SPDX-License-Identifier: Apache-2.0
// A short training of a small model over ranks as threads, in any layout, and the state it ends in, put together from
// what the ranks hold: what the layout law compares.
#pragma once

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tests/support/run_ranks.h"
#include "tests/support/tiny_model.h"

namespace conclave::testing {

struct LayoutSetup {
  core::Config config;
  int ranks = 1;
  int threads = 1;
  int64_t steps = 2;
};

struct LayoutResult {
  std::string error;            // why there is no such layout, from Layout::Create
  std::string hash;             // of masters, moments, router biases
  std::vector<double> figures;  // of all steps; the same on every rank
  bool memory_as_planned = true;
};

// Global tensors put together from boxes; each element must come exactly once.
class Assembly {
 public:
  void Add(const core::StateTensor& tensor) {
    const std::lock_guard lock(mutex_);
    Whole& whole = tensors_[tensor.name];
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) elements *= size;
    const int64_t width = core::SizeOf(tensor.dtype);
    whole.data.resize(elements * width);
    whole.seen.resize(elements);
    // Boxes of parameters are runs of rows.
    const int64_t row = elements / tensor.shape[0], begin = tensor.box.offsets[0] * row;
    for (int64_t i = 0; i < tensor.box.Elements(); ++i) {
      EXPECT_FALSE(whole.seen[begin + i]) << tensor.name << " element " << begin + i << " is there twice";
      whole.seen[begin + i] = true;
    }
    std::memcpy(whole.data.data() + begin * width, tensor.data, tensor.box.Elements() * width);
  }
  std::string Hash() const {
    core::Hasher hasher;
    for (const auto& [name, whole] : tensors_) {
      EXPECT_EQ(std::count(whole.seen.begin(), whole.seen.end(), false), 0) << name << " is not complete";
      hasher.Update(name.data(), name.size());
      hasher.Update(whole.data.data(), whole.data.size());
    }
    return hasher.HexDigest();
  }

 private:
  struct Whole {
    std::vector<char> data;
    std::vector<bool> seen;
  };
  std::mutex mutex_;
  std::map<std::string, Whole> tensors_;
};

// One rank of the run.
inline LayoutResult TrainRank(const LayoutSetup& setup, parallel::Comm& world, Assembly& assembly) {
  LayoutResult result;
  const core::Config& config = setup.config;
  auto device = core::CreateDevice({.num_threads = setup.threads});
  auto layout = parallel::Layout::Create(config, config.model, optim::BatchRows(config.batch), world, 1);
  if (!layout.ok()) return {.error = std::string(layout.status().message())};
  core::Model::Options options{.precision = config.ComputePrecision(),
                               .purpose = core::ParamSet::Purpose::kTraining,
                               .training = core::TrainingStateOf(config),
                               .max_positions = config.data.sequence_length};
  (*layout)->Describe(options);
  auto model = core::Model::Create(config.model, **device, options);
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->params().Initialize((*model)->kernels(), static_cast<uint64_t>(config.train.seed), config.train.init_std);
  (*model)->Refresh();
  auto trainer = optim::Trainer::Create(**model, config, **layout);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  (*trainer)->StartEma();
  const auto batch_of = [&](int64_t step) {
    return RandomBatch(optim::RowsOfStep(config.batch, step), config.data.sequence_length, config.model.vocab_size,
                       static_cast<uint64_t>(step));
  };
  for (int64_t step = 1; step <= setup.steps; ++step) {
    const optim::StepMetrics metrics = (*trainer)->Step(batch_of(step), step);
    EXPECT_TRUE(metrics.finite);
    for (double figure : {metrics.loss, metrics.mtp_loss, metrics.balance_loss, metrics.total_loss, metrics.grad_norm,
                          metrics.load_imbalance}) {
      result.figures.push_back(figure);
    }
  }
  result.figures.push_back((*trainer)->Evaluate(batch_of(setup.steps + 1)).loss);
  result.memory_as_planned = (*trainer)->MeasuredAsPlanned();
  for (const core::StateTensor& tensor : optim::OptimizerTensors(**model)) assembly.Add(tensor);
  return result;
}

inline LayoutResult TrainInLayout(const LayoutSetup& setup) {
  Assembly assembly;
  std::vector<LayoutResult> results(setup.ranks);
  parallel::test::RunRanks(setup.ranks,
                           [&](parallel::Comm& world) { results[world.rank()] = TrainRank(setup, world, assembly); });
  LayoutResult& result = results[0];
  for (const LayoutResult& other : results) {
    EXPECT_EQ(other.error, result.error);
    EXPECT_EQ(other.figures, result.figures);
    result.memory_as_planned = result.memory_as_planned && other.memory_as_planned;
  }
  if (result.error.empty()) result.hash = assembly.Hash();
  return result;
}

}  // namespace conclave::testing
