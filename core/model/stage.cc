// SPDX-License-Identifier: Apache-2.0
#include "core/model/stage.h"

#include "core/base/status_macros.h"
#include "core/model/rope_table.h"

namespace conclave::core {

Stage::Stage(const ModelConfig& config, ParamSet& params, DType dtype) : config_(config), dtype_(dtype) {
  if (config.n_routed_experts > 0) {
    exchange_ = std::make_unique<LocalTokenExchange>(config.n_routed_experts, config.num_experts_per_tok);
  }
  embedding_ = std::make_unique<EmbeddingLayer>(config_, params, dtype);
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    blocks_.push_back(std::make_unique<Block>(config_, params, exchange_.get(), layer, dtype, rope_table_));
  }
  loss_ = std::make_unique<LossUnit>(config_, params, exchange_.get(), *embedding_, dtype, rope_table_);
  for (const auto& block : blocks_) {
    if (block->router()) routers_.push_back(block->router());
  }
  for (int k = 0; k < loss_->depth(); ++k) {
    if (loss_->router(k)) routers_.push_back(loss_->router(k));
  }
}

absl::Status Stage::Prepare(Device& device, Stream& stream, int64_t positions) {
  const int64_t dim = RotaryDim(config_);
  const std::vector<float> table = MakeRopeTable(config_, dim, positions);
  ASSIGN_OR_RETURN(rope_memory_, device.Allocate(static_cast<int64_t>(table.size()) * 4, "rotary table"));
  rope_table_ = Tensor(rope_memory_->data(), DType::kF32, {positions, dim});
  device.CopyToDevice(stream, table.data(), rope_table_);
  return absl::OkStatus();
}

void Stage::ForwardBody(Lane& lane, StagePass& pass, const StepStatistics& statistics,
                        std::span<const AttentionCache> caches, StageSaved& saved) const {
  const int64_t t = pass.num_tokens();
  const bool keep = pass.mode != PassMode::kForwardOnly;
  saved.blocks.resize(blocks_.size());
  Tensor x = pass.until_input_grad.Allocate(dtype_, {t, config_.hidden_size});
  Tensor spare = keep ? Tensor() : pass.until_input_grad.Allocate(dtype_, {t, config_.hidden_size});
  embedding_->Forward(lane, pass.main().tokens, x);
  int64_t moe = 0;
  for (size_t i = 0; i < blocks_.size(); ++i) {
    BlockSaved& block = saved.blocks[i];
    block.x = x;
    block.y = keep ? pass.until_input_grad.Allocate(dtype_, {t, config_.hidden_size}) : spare;
    RouterStatistics router;
    if (blocks_[i]->router() && statistics.load) {
      router.balance_loss = statistics.balance_loss.Slice(0, moe, 1).MergeFirst();
      router.load = statistics.load.Slice(0, moe++, 1).MergeFirst();
    }
    Arena::Scope scope(pass.until_block_end);
    for (Phase phase : kForwardPhases) {
      blocks_[i]->Forward(phase, lane, pass, pass.main(), router, caches.empty() ? nullptr : &caches[i], block);
    }
    spare = x;
    x = block.y;
  }
  saved.loss.hidden = x;
  loss_->Normalize(lane, pass, saved.loss);
}

void Stage::Forward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                    StageSaved& saved) const {
  ForwardBody(lane, pass, statistics, {}, saved);
  const int64_t moe_blocks = static_cast<int64_t>(routers_.size()) - loss_->num_moe_blocks();
  if (pass.predict_ahead) loss_->PredictAhead(lane, pass, statistics, moe_blocks, saved.loss);
  loss_->Loss(lane, pass, weights, statistics, saved.loss);
}

void Stage::BackwardInput(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const {
  const int64_t t = pass.num_tokens();
  const bool immediate = pass.mode == PassMode::kTrainImmediate;
  // The gradient of the residual stream is also an output gradient of its block's last matrix. It lives until the weight
  // gradient; with immediate tasks two buffers in turn are enough.
  Tensor buffers[2];
  for (Tensor& buffer : buffers) buffer = pass.until_weight_grad.Allocate(dtype_, {t, config_.hidden_size});
  Tensor dy = buffers[0];
  {
    Arena::Scope scope(pass.until_weight_grad);
    loss_->Backward(lane, pass, weights, saved.loss, dy);
    if (immediate) pass.tasks.Drain(lane.kernels);
    // Deferred tasks still need what was allocated here.
    if (!immediate) scope.Keep();
  }
  for (int64_t i = num_blocks() - 1; i >= 0; --i) {
    BlockSaved& block = saved.blocks[i];
    block.dy = dy;
    block.dx = immediate || i == num_blocks() - 1 ? buffers[(num_blocks() - i) % 2]
                                                  : pass.until_weight_grad.Allocate(dtype_, {t, config_.hidden_size});
    Arena::Scope block_scope(pass.until_block_end);
    Arena::Scope scope(pass.until_weight_grad);
    for (Phase phase : kBackwardPhases) {
      blocks_[i]->Backward(phase, lane, pass, pass.main(), weights.balance, block);
    }
    if (immediate) pass.tasks.Drain(lane.kernels);
    if (!immediate) scope.Keep();
    dy = block.dx;
  }
  embedding_->Backward(lane, pass, pass.main().tokens, dy);
}

std::vector<int64_t> Stage::router_layers() const {
  std::vector<int64_t> out;
  for (int64_t layer = 0; layer < config_.num_hidden_layers + config_.num_nextn_predict_layers; ++layer) {
    if (config_.IsMoe(layer)) out.push_back(layer);
  }
  return out;
}

std::vector<AttentionCache> Stage::AllocateCaches(Arena& arena, int64_t sequences, int64_t capacity) const {
  std::vector<AttentionCache> caches;
  for (const auto& block : blocks_) caches.push_back(block->attention().AllocateCache(arena, sequences, capacity));
  return caches;
}

}  // namespace conclave::core
