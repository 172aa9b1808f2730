// SPDX-License-Identifier: Apache-2.0
// Consecutive blocks, with the embedding before the first and the loss unit after the last: what a pipeline rank holds.
// One rank alone holds one stage with everything. The three verbs of schedules are Forward, BackwardInput,
// BackwardWeight; they are also there step by step, so that a forward and a backward can take turns
// (parallel/overlap.h).
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

// Which part of a model a stage is.
struct StagePart {
  int64_t first_block = 0, num_blocks = 0;
  bool embedding = false, loss = false;  // holds the first, the last unit
  static StagePart Whole(const ModelConfig& config) { return {0, config.num_hidden_layers, true, true}; }
};

struct StageSaved {
  Tensor input;  // [T, D] of the first block: embedded here, or received
  std::vector<BlockSaved> blocks;
  LossSaved loss;
  Tensor gradients[2];           // [T, D]: of the output first, then in turns with immediate weight gradients
  int64_t weight_grad_mark = 0;  // of the block under way
};

class Stage {
 public:
  // Declares all parameters in `params`; the caller allocates them, then calls Prepare.
  Stage(const ModelConfig& config, ParamSet& params, DType dtype)
      : Stage(config, params, dtype, StagePart::Whole(config), {}) {}
  // `make_exchange`: of MoE layers; empty: all experts are here. `cache`: of decoding.
  Stage(const ModelConfig& config, ParamSet& params, DType dtype, const StagePart& part,
        const ExchangeFactory& make_exchange, CacheKind cache = CacheKind::kExpanded);

  // Fills the rotary table (host) for `positions` positions and puts it on the device.
  absl::Status Prepare(Device& device, Stream& stream, int64_t positions);

  // ---- The verbs
  // ----------------------------------------------------------------------------------------------------- Embedding and
  // blocks up to the final norm: saved.loss.normed [T, D]. `caches`, one per block, only when decoding.
  void ForwardBody(Lane& lane, StagePass& pass, const StepStatistics& statistics,
                   std::span<const AttentionCache> caches, StageSaved& saved) const;
  // The whole forward pass; with the loss unit its losses, where statistics ask for any (and, in training passes, the
  // gradient of the loss itself).
  // Without embedding AllocateInput comes before, and its tensor is filled.
  void Forward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
               StageSaved& saved) const;
  // Gradients of activations, norms, biases and the embedding; matrices become tasks (drained per block in
  // PassMode::kTrainImmediate). Without loss unit AllocateOutputGradient comes before, and its tensor is filled.
  void BackwardInput(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const;
  void BackwardWeight(Lane& lane, StagePass& pass) const { pass.tasks.DrainAndClose(lane.kernels); }

  // ---- Borders to other stages: [T, D] in the compute dtype, in memory and on the wire
  // -------------------------------
  Tensor AllocateInput(StagePass& pass, StageSaved& saved) const;
  Tensor AllocateOutputGradient(StagePass& pass, StageSaved& saved) const;
  Tensor Output(const StageSaved& saved) const { return blocks_.empty() ? saved.input : saved.blocks.back().y; }
  Tensor InputGradient(const StageSaved& saved) const {
    return blocks_.empty() ? saved.gradients[0] : saved.blocks.front().dx;
  }

  // ---- The verbs step by step: Begin, each block's phases in order (backward: then EndBlock), End
  // ----------------------
  // ----------------------------------------------
  void BeginForward(Lane& lane, StagePass& pass, StageSaved& saved) const;
  void ForwardPhase(int64_t block, Phase phase, Lane& lane, StagePass& pass, const StepStatistics& statistics,
                    const AttentionCache* cache, StageSaved& saved) const;
  void EndForward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                  StageSaved& saved) const;
  void BeginBackward(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const;
  void BackwardPhase(int64_t block, Phase phase, Lane& lane, StagePass& pass, const LossWeights& weights,
                     StageSaved& saved) const;
  // Weight gradients so far, in PassMode::kTrainImmediate.
  void DrainImmediate(Lane& lane, StagePass& pass) const;
  void EndBlock(Lane& lane, StagePass& pass, StageSaved& saved) const;
  void EndBackward(Lane& lane, StagePass& pass, StageSaved& saved) const;

  const StagePart& part() const { return part_; }
  const LossUnit& loss_unit() const { return *loss_; }
  int64_t num_blocks() const { return static_cast<int64_t>(blocks_.size()); }
  // A MoE block of this stage, those of multi-token prediction last, and its place among all of the model: the row of
  // StepStatistics.
  struct MoeBlock {
    int64_t index = 0;
    const Moe* moe = nullptr;
  };
  const std::vector<MoeBlock>& moe_blocks() const { return moe_blocks_; }
  int64_t num_body_moe_blocks() const { return num_body_moe_blocks_; }  // without multi-token prediction
  // Its parameters, in order of declaration; one that stages of a rank share is among those of the first.
  const std::vector<Param*>& params() const { return own_params_; }
  // What a plan assumes of the exchanges where nothing is known yet.
  std::vector<ExchangeRows> WorstExchangeRows(const StagePass& pass) const;
  std::vector<AttentionCache> AllocateCaches(Arena& arena, int64_t sequences, int64_t capacity) const;
  const ModelConfig& config() const { return config_; }
  DType dtype() const { return dtype_; }

 private:
  void DeclareLoss(ParamSet& params, const ExchangeFactory& exchange_of, int64_t first_exchange);

  const ModelConfig config_;
  const StagePart part_;
  DType dtype_;
  Tensor rope_table_;  // f32 [positions, rotary dim], on the device
  std::unique_ptr<DeviceBuffer> rope_memory_;
  std::unique_ptr<EmbeddingLayer> embedding_;  // also where only its loss unit looks tokens up
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<LossUnit> loss_;
  std::vector<MoeBlock> moe_blocks_;
  int64_t num_body_moe_blocks_ = 0;
  std::vector<Param*> own_params_;
  std::vector<int64_t> statistics_row_;  // by block; -1: not MoE
  int64_t loss_statistics_row_ = 0;      // of the first MoE block of the loss unit
};

// Layer numbers (as in tensor names) of all MoE blocks of a model, those of multi-token prediction last: rows of
// StepStatistics.
std::vector<int64_t> MoeLayers(const ModelConfig& config);

}  // namespace conclave::core
