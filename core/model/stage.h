// SPDX-License-Identifier: Apache-2.0
// Consecutive blocks, with the embedding before the first and the loss unit after the last: what a pipeline rank holds. One
// rank alone holds one stage with everything. The three verbs of schedules are Forward, BackwardInput, BackwardWeight.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/config/model_config.h"
#include "core/model/block.h"
#include "core/model/embedding.h"
#include "core/model/loss_unit.h"
#include "core/model/param.h"
#include "core/model/stage_pass.h"
#include "core/model/token_exchange.h"

namespace conclave::core {

struct StageSaved {
  std::vector<BlockSaved> blocks;
  LossSaved loss;
};

class Stage {
 public:
  // Declares all parameters in `params`; the caller allocates them, then calls Prepare.
  Stage(const ModelConfig& config, ParamSet& params, DType dtype);

  // Fills the rotary table (host) for `positions` positions and puts it on the device.
  absl::Status Prepare(Device& device, Stream& stream, int64_t positions);

  // Embedding and blocks up to the final norm: saved.loss.normed [T, D]. `caches`, one per block, only when decoding.
  void ForwardBody(Lane& lane, StagePass& pass, const StepStatistics& statistics, std::span<const AttentionCache> caches,
                   StageSaved& saved) const;
  // The whole forward pass with losses (and, in training passes, the gradient of the loss itself).
  void Forward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
               StageSaved& saved) const;
  // Gradients of activations, norms, biases and the embedding; matrices become tasks (drained per block in
  // PassMode::kTrainImmediate).
  void BackwardInput(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const;
  void BackwardWeight(Lane& lane, StagePass& pass) const { pass.tasks.Drain(lane.kernels); }

  const LossUnit& loss_unit() const { return *loss_; }
  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  // Routers of all MoE blocks in order, those of multi-token prediction last; rows of StepStatistics::load.
  const std::vector<const RouterLayer*>& routers() const { return routers_; }
  // Layer number (as in tensor names) of each router.
  std::vector<int64_t> router_layers() const;
  std::vector<AttentionCache> AllocateCaches(Arena& arena, int64_t sequences, int64_t capacity) const;
  const ModelConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }

 private:
  const ModelConfig config_;
  DType dtype_;
  Tensor rope_table_;  // f32 [positions, rotary dim], on the device
  std::unique_ptr<DeviceBuffer> rope_memory_;
  std::unique_ptr<TokenExchange> exchange_;
  std::unique_ptr<EmbeddingLayer> embedding_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<LossUnit> loss_;
  std::vector<const RouterLayer*> routers_;
};

}  // namespace conclave::core
