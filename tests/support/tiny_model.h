// SPDX-License-Identifier: Apache-2.0
// A very small DeepSeek-V3-shaped model with everything on (MLA with q-LoRA, a dense and a MoE block, groups, a shared
// expert, multi-token prediction), random batches for it, and a hash of a training state: what the law tests compare.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/model/model.h"
#include "optim/trainer.h"
#include "optim/weights.h"

namespace conclave::testing {

inline core::Config TinyConfig() {
  core::Config config;
  core::ModelConfig& model = config.model;
  model.vocab_size = 97;
  model.hidden_size = 48;
  model.intermediate_size = 80;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 3;
  model.q_lora_rank = 24;
  model.kv_lora_rank = 20;
  model.qk_nope_head_dim = 12;
  model.qk_rope_head_dim = 8;
  model.v_head_dim = 10;
  model.n_routed_experts = 6;
  model.n_shared_experts = 1;
  model.num_experts_per_tok = 2;
  model.moe_intermediate_size = 28;
  model.first_k_dense_replace = 1;
  model.n_group = 3;
  model.topk_group = 2;
  model.routed_scaling_factor = 2.5;
  model.num_nextn_predict_layers = 1;
  model.max_position_embeddings = 64;
  config.data.sequence_length = 40;
  config.batch.sequences = 8;
  config.optim.lr = 1e-2;
  config.optim.z_loss = 1e-3;
  config.moe.balance_loss = 1e-2;
  config.train.steps = 6;
  config.train.init_std = 0.3;
  return config;
}

inline core::CacheKind CacheOf(const core::Config& config) {
  return config.rollout.cache == "latent" ? core::CacheKind::kLatent : core::CacheKind::kExpanded;
}

// Rows of 1 to 3 masked documents each, with some padding at the end of every third row.
inline core::Batch RandomBatch(int64_t rows, int64_t length, int64_t vocabulary, uint64_t seed) {
  core::Batch batch{.rows = rows, .length = length};
  const uint64_t key = core::RandomKey(seed, core::RandomPurpose::kTest, 1);
  for (int64_t row = 0; row < rows; ++row) {
    const auto draw = core::Philox(key, row, 1);
    const int64_t cuts[2] = {static_cast<int64_t>(draw[0] % length), static_cast<int64_t>(draw[1] % length)};
    const int64_t end = row % 3 == 2 ? length - 1 - static_cast<int64_t>(draw[2] % 7) : length;
    int64_t position = 0;
    for (int64_t s = 0; s < length; ++s) {
      if (s == cuts[0] || s == cuts[1]) position = 0;
      const bool padding = s >= end;
      const bool document_ends = s + 1 >= end || s + 1 == cuts[0] || s + 1 == cuts[1];
      batch.tokens.push_back(padding ? 0 : static_cast<int32_t>(core::Philox(key, row, 100 + s)[0] % vocabulary));
      batch.positions.push_back(padding ? -1 : static_cast<int32_t>(position++));
      batch.labels.push_back(-1);
      if (!padding && !document_ends)
        batch.labels.back() = static_cast<int32_t>(core::Philox(key, row, 101 + s)[0] % vocabulary);
      batch.num_labels += batch.labels.back() >= 0;
    }
    batch.row_ids.push_back(row);
  }
  return batch;
}

// A device with a given instruction set ("" = the machine's best), or nullptr if the machine lacks it.
inline std::unique_ptr<core::Device> MakeDevice(const std::string& target, int threads) {
  const char* const outer = getenv("CONCLAVE_CPU");
  const std::string kept = outer ? outer : "";
  if (!target.empty()) setenv("CONCLAVE_CPU", target.c_str(), 1);
  auto device = core::CreateDevice({.name = "cpu", .num_threads = threads});
  if (!target.empty()) kept.empty() ? unsetenv("CONCLAVE_CPU") : setenv("CONCLAVE_CPU", kept.c_str(), 1);
  return device.ok() ? std::move(device).value() : nullptr;
}

struct TrainedState {
  std::string hash;             // of masters, moments, router biases
  std::vector<double> figures;  // losses and norms of all steps
};

struct TrainingSetup {
  core::Config config = TinyConfig();
  std::string target;
  int threads = 2;
  int64_t steps = 3;
  core::OperationProfile* profile = nullptr;  // records all operations
};

inline std::string HashState(const core::Model& model) {
  core::Hasher hasher;
  for (const core::StateTensor& tensor : optim::OptimizerTensors(model)) {
    hasher.Update(tensor.name.data(), tensor.name.size());
    hasher.Update(tensor.data, static_cast<size_t>(tensor.box.Elements() * core::SizeOf(tensor.dtype)));
  }
  return hasher.HexDigest();
}

// With `profile`, the model's operations are recorded there.
inline std::unique_ptr<core::Model> MakeTrainingModel(const core::Config& config, core::Device& device,
                                                      core::OperationProfile* profile = nullptr) {
  auto model = core::Model::Create(config.model, device,
                                   {.precision = config.ComputePrecision(),
                                    .purpose = core::ParamSet::Purpose::kTraining,
                                    .training = core::TrainingStateOf(config),
                                    .cache = CacheOf(config),
                                    .max_positions = config.data.sequence_length,
                                    .profile = profile});
  EXPECT_TRUE(model.ok()) << model.status();
  (*model)->params().Initialize((*model)->kernels(), static_cast<uint64_t>(config.train.seed), config.train.init_std);
  (*model)->Refresh();
  return std::move(model).value();
}

inline TrainedState Train(const TrainingSetup& setup) {
  auto device = MakeDevice(setup.target, setup.threads);
  if (!device) return {};
  auto model = MakeTrainingModel(setup.config, *device, setup.profile);
  auto trainer = optim::Trainer::Create(*model, setup.config);
  EXPECT_TRUE(trainer.ok()) << trainer.status();
  (*trainer)->StartEma();
  TrainedState state;
  for (int64_t step = 1; step <= setup.steps; ++step) {
    const core::Batch batch = RandomBatch(setup.config.batch.sequences, setup.config.data.sequence_length,
                                          setup.config.model.vocab_size, static_cast<uint64_t>(step));
    const optim::StepMetrics metrics = (*trainer)->Step(batch, step);
    EXPECT_TRUE(metrics.finite);
    for (double figure : {metrics.loss, metrics.mtp_loss, metrics.balance_loss, metrics.total_loss, metrics.grad_norm,
                          metrics.load_imbalance}) {
      state.figures.push_back(figure);
    }
  }
  EXPECT_TRUE((*trainer)->MeasuredAsPlanned());
  state.hash = HashState(*model);
  return state;
}

}  // namespace conclave::testing
