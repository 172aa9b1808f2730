// SPDX-License-Identifier: Apache-2.0
#include "core/model/stage.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/model/rope_table.h"

namespace conclave::core {
namespace {

// Of the MoE block that is number `row` of the model and number `row` - `first_row` of its stage.
RouterStatistics StatisticsOf(const StepStatistics& statistics, int64_t row, int64_t first_row) {
  RouterStatistics out;
  if (statistics.load) {
    out.balance_loss = statistics.balance_loss.Slice(0, row, 1).MergeFirst();
    out.load = statistics.load.Slice(0, row, 1).MergeFirst();
  }
  if (statistics.choices) {
    out.choices = statistics.choices;
    out.choices.experts = statistics.choices.experts.Slice(0, row - first_row, 1).MergeFirst().MergeFirst();
  }
  return out;
}

// How many MoE layers come before one: its row of StepStatistics.
int64_t StatisticsRow(const ModelConfig& config, int64_t layer) {
  const std::vector<int64_t> layers = MoeLayers(config);
  return std::lower_bound(layers.begin(), layers.end(), layer) - layers.begin();
}

}  // namespace

std::vector<int64_t> MoeLayers(const ModelConfig& config) {
  std::vector<int64_t> out;
  for (int64_t layer = 0; layer < config.num_hidden_layers + config.num_nextn_predict_layers; ++layer) {
    if (config.IsMoe(layer)) out.push_back(layer);
  }
  return out;
}

Stage::Stage(const ModelConfig& config, ParamSet& params, DType dtype, const StagePart& part,
             const ExchangeFactory& make_exchange, CacheKind cache)
    : config_(config), part_(part), dtype_(dtype) {
  const size_t params_before = params.params().size();
  const ExchangeFactory exchange_of = make_exchange ? make_exchange : [this](int64_t, int64_t index) {
    return MakeLocalTokenExchange(config_.n_routed_experts, index);
  };
  const bool embeds_at_end = config.tie_word_embeddings || config.num_nextn_predict_layers > 0;
  if (part.embedding || (part.loss && embeds_at_end)) {
    embedding_ = std::make_unique<EmbeddingLayer>(config_, params, dtype);
  }
  int64_t exchanges = 0;
  for (int64_t layer = part.first_block; layer < part.first_block + part.num_blocks; ++layer) {
    auto exchange = config.IsMoe(layer) ? exchange_of(layer, exchanges++) : nullptr;
    const size_t before = params.params().size();
    blocks_.push_back(std::make_unique<Block>(config_, params, std::move(exchange), layer, dtype, rope_table_, cache));
    params.SetLayer(before, layer);
    const Moe* const moe = blocks_.back()->moe();
    statistics_row_.push_back(moe ? StatisticsRow(config_, layer) : -1);
    if (moe) moe_blocks_.push_back({statistics_row_.back(), moe});
  }
  num_body_moe_blocks_ = static_cast<int64_t>(moe_blocks_.size());
  if (part.loss) DeclareLoss(params, exchange_of, exchanges);
  for (size_t i = params_before; i < params.params().size(); ++i) own_params_.push_back(params.params()[i].get());
}

void Stage::DeclareLoss(ParamSet& params, const ExchangeFactory& exchange_of, int64_t first_exchange) {
  loss_ =
      std::make_unique<LossUnit>(config_, params, exchange_of, first_exchange, embedding_.get(), dtype_, rope_table_);
  loss_statistics_row_ = StatisticsRow(config_, config_.num_hidden_layers);
  for (int k = 0; k < loss_->depth(); ++k) {
    const int64_t layer = config_.num_hidden_layers + k;
    const Moe* const moe = loss_->block(k).moe();
    if (moe) moe_blocks_.push_back({StatisticsRow(config_, layer), moe});
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

std::vector<ExchangeRows> Stage::WorstExchangeRows(const StagePass& pass) const {
  std::vector<ExchangeRows> rows;
  for (const MoeBlock& block : moe_blocks_) {
    rows.push_back(block.moe->exchange().WorstRows(pass, config_.num_experts_per_tok));
  }
  return rows;
}

Tensor Stage::AllocateInput(StagePass& pass, StageSaved& saved) const {
  saved.input = pass.until_input_grad.Allocate(dtype_, {pass.num_tokens(), config_.hidden_size});
  return saved.input;
}

void Stage::BeginForward(Lane& lane, StagePass& pass, StageSaved& saved) const {
  saved.blocks.resize(blocks_.size());
  if (!pass.planning) pass.exchange_rows.resize(moe_blocks_.size());
  if (part_.embedding) embedding_->Forward(lane, pass.main().tokens, AllocateInput(pass, saved));
  Tensor x = saved.input;
  // Without backward the residual stream needs two tensors in turn.
  const bool keep = pass.mode != PassMode::kForwardOnly;
  Tensor spare = keep || blocks_.empty() ? Tensor() : pass.until_input_grad.Allocate(dtype_, {x.size(0), x.size(1)});
  for (BlockSaved& block : saved.blocks) {
    block.x = x;
    block.y = keep ? pass.until_input_grad.Allocate(dtype_, {x.size(0), x.size(1)}) : spare;
    spare = x;
    x = block.y;
  }
}

void Stage::ForwardPhase(int64_t block, Phase phase, Lane& lane, StagePass& pass, const StepStatistics& statistics,
                         const AttentionCache* cache, StageSaved& saved) const {
  if (phase == kForwardPhases[0]) pass.until_block_end.Reset();
  RouterStatistics router;
  if (statistics_row_[block] >= 0) {
    router = StatisticsOf(statistics, statistics_row_[block], moe_blocks_.front().index);
  }
  blocks_[block]->Forward(phase, lane, pass, pass.main(), router, cache, saved.blocks[block]);
}

void Stage::EndForward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                       StageSaved& saved) const {
  if (!loss_) return;
  pass.until_block_end.Reset();
  saved.loss.hidden = Output(saved);
  loss_->Normalize(lane, pass, saved.loss);
  if (!statistics.loss && !statistics.hidden) return;
  if (pass.predict_ahead) loss_->PredictAhead(lane, pass, statistics, loss_statistics_row_, saved.loss);
  loss_->Loss(lane, pass, weights, statistics, saved.loss);
}

void Stage::ForwardBody(Lane& lane, StagePass& pass, const StepStatistics& statistics,
                        std::span<const AttentionCache> caches, StageSaved& saved) const {
  BeginForward(lane, pass, saved);
  for (int64_t i = 0; i < num_blocks(); ++i) {
    for (Phase phase : kForwardPhases) {
      ForwardPhase(i, phase, lane, pass, statistics, caches.empty() ? nullptr : &caches[i], saved);
    }
  }
  if (!loss_) return;
  saved.loss.hidden = Output(saved);
  loss_->Normalize(lane, pass, saved.loss);
}

void Stage::Forward(Lane& lane, StagePass& pass, const LossWeights& weights, const StepStatistics& statistics,
                    StageSaved& saved) const {
  BeginForward(lane, pass, saved);
  for (int64_t i = 0; i < num_blocks(); ++i) {
    for (Phase phase : kForwardPhases) ForwardPhase(i, phase, lane, pass, statistics, nullptr, saved);
  }
  EndForward(lane, pass, weights, statistics, saved);
}

// The gradient of the residual stream is also an output gradient of its block's last matrix. It lives until the weight
// gradient; with immediate tasks two tensors in turn are enough.
Tensor Stage::AllocateOutputGradient(StagePass& pass, StageSaved& saved) const {
  for (Tensor& tensor : saved.gradients) {
    tensor = pass.until_weight_grad.Allocate(dtype_, {pass.num_tokens(), config_.hidden_size});
  }
  return saved.gradients[0];
}

void Stage::BeginBackward(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const {
  if (!loss_) return;
  AllocateOutputGradient(pass, saved);
  const int64_t mark = pass.until_weight_grad.used();
  pass.until_block_end.Reset();
  loss_->Backward(lane, pass, weights, saved.loss, saved.gradients[0]);
  if (pass.mode != PassMode::kTrainImmediate) return;  // deferred tasks still need what was allocated here
  pass.tasks.DrainAndClose(lane.kernels);
  pass.until_weight_grad.ReleaseTo(mark);
}

void Stage::BackwardPhase(int64_t block, Phase phase, Lane& lane, StagePass& pass, const LossWeights& weights,
                          StageSaved& saved) const {
  const bool immediate = pass.mode == PassMode::kTrainImmediate;
  BlockSaved& here = saved.blocks[block];
  if (phase == kBackwardPhases[0]) {
    const int64_t from_end = num_blocks() - 1 - block;
    here.dy = from_end == 0 ? saved.gradients[0] : saved.blocks[block + 1].dx;
    here.dx = immediate || from_end == 0 ? saved.gradients[(from_end + 1) % 2]
                                         : pass.until_weight_grad.Allocate(dtype_, {here.dy.size(0), here.dy.size(1)});
    pass.until_block_end.Reset();
    pass.tasks.SetLayer(part_.first_block + block);
    saved.weight_grad_mark = pass.until_weight_grad.used();
  }
  blocks_[block]->Backward(phase, lane, pass, pass.main(), weights.balance, here);
}

void Stage::DrainImmediate(Lane& lane, StagePass& pass) const {
  if (pass.mode == PassMode::kTrainImmediate) pass.tasks.Drain(lane.kernels);
}

void Stage::EndBlock(Lane& lane, StagePass& pass, StageSaved& saved) const {
  if (pass.mode != PassMode::kTrainImmediate) return;  // deferred tasks still need what the block allocated
  pass.tasks.DrainAndClose(lane.kernels);
  pass.until_weight_grad.ReleaseTo(saved.weight_grad_mark);
}

void Stage::EndBackward(Lane& lane, StagePass& pass, StageSaved& saved) const {
  if (part_.embedding) embedding_->Backward(lane, pass, pass.main().tokens, InputGradient(saved));
}

void Stage::BackwardInput(Lane& lane, StagePass& pass, const LossWeights& weights, StageSaved& saved) const {
  BeginBackward(lane, pass, weights, saved);
  for (int64_t i = num_blocks() - 1; i >= 0; --i) {
    for (Phase phase : kBackwardPhases) BackwardPhase(i, phase, lane, pass, weights, saved);
    EndBlock(lane, pass, saved);
  }
  EndBackward(lane, pass, saved);
}

std::vector<AttentionCache> Stage::AllocateCaches(Arena& arena, int64_t sequences, int64_t capacity) const {
  std::vector<AttentionCache> caches;
  for (const auto& block : blocks_) caches.push_back(block->attention().AllocateCache(arena, sequences, capacity));
  return caches;
}

}  // namespace conclave::core
