// SPDX-License-Identifier: Apache-2.0
#include "core/model/block.h"

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

std::string Name(int64_t layer) { return absl::StrFormat("layers.%d", layer); }
std::string HfPrefix(int64_t layer) { return absl::StrFormat("model.layers.%d.", layer); }

std::unique_ptr<AttentionLayer> MakeAttention(const ModelConfig& config, ParamSet& params, int64_t layer, DType dtype,
                                              const Tensor& rope_table, CacheKind cache) {
  const std::string name = Name(layer) + ".attention", prefix = HfPrefix(layer) + "self_attn.";
  if (!config.HasMla()) return MakeGqaAttention(config, params, name, prefix, dtype, rope_table);
  return MakeMlaAttention(config, params, name, prefix, dtype, rope_table, cache);
}

}  // namespace

Block::Block(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange, int64_t layer,
             DType dtype, const Tensor& rope_table, CacheKind cache)
    : params_(params),
      dtype_(dtype),
      hidden_(config.hidden_size),
      attention_norm_(params, Name(layer) + ".attention_norm", HfPrefix(layer) + "input_layernorm", hidden_,
                      config.rms_norm_eps),
      attention_(MakeAttention(config, params, layer, dtype, rope_table, cache)),
      mlp_norm_(params, Name(layer) + ".mlp_norm", HfPrefix(layer) + "post_attention_layernorm", hidden_,
                config.rms_norm_eps) {
  const std::string name = Name(layer) + ".mlp", prefix = HfPrefix(layer) + "mlp.";
  if (config.IsMoe(layer)) {
    moe_ = std::make_unique<Moe>(config, params, std::move(exchange), name, prefix, dtype);
  } else {
    mlp_ = std::make_unique<Mlp>(params, name, prefix, hidden_, config.intermediate_size, dtype);
  }
}

void Block::Forward(Phase phase, Lane& lane, StagePass& pass, const DeviceTokens& tokens,
                    const RouterStatistics& statistics, const AttentionCache* cache, BlockSaved& saved) const {
  const int64_t t = pass.num_tokens();
  switch (phase) {
    case Phase::kAttention: {
      saved.x_rstd = pass.SavedForInputGrad().Allocate(DType::kF32, {t});
      saved.attention.normed = pass.SavedForWeightGrad().Allocate(dtype_, {t, hidden_});
      attention_norm_.Forward(lane, saved.x, saved.attention.normed, saved.x_rstd);
      saved.middle = pass.SavedForInputGrad().Allocate(dtype_, {t, hidden_});
      attention_->Forward(lane, pass, tokens, saved.x, cache, saved.attention, saved.middle);
      saved.middle_rstd = pass.SavedForInputGrad().Allocate(DType::kF32, {t});
      saved.normed = pass.SavedForWeightGrad().Allocate(dtype_, {t, hidden_});
      mlp_norm_.Forward(lane, saved.middle, saved.normed, saved.middle_rstd);
      if (moe_) moe_->Route(lane, pass, tokens, saved.normed, statistics, saved.moe);
      break;
    }
    case Phase::kDispatch:
      if (moe_) moe_->Dispatch(lane, pass, saved.normed, saved.moe);
      break;
    case Phase::kExperts:
      if (moe_) {
        moe_->Experts(lane, pass, saved.normed, saved.moe);
      } else {
        saved.mlp.x = saved.normed;
        mlp_->Forward(lane, pass, saved.mlp, saved.middle, saved.y);
      }
      break;
    case Phase::kCombine:
      if (moe_) moe_->Combine(lane, pass, saved.middle, saved.moe, saved.y);
      break;
  }
}

void Block::Backward(Phase phase, Lane& lane, StagePass& pass, const DeviceTokens& tokens, float balance_weight,
                     BlockSaved& saved) const {
  const int64_t t = pass.num_tokens();
  switch (phase) {
    case Phase::kCombine:
      if (moe_) moe_->CombineBackward(lane, pass, saved.dy, saved.moe);
      break;
    case Phase::kExperts:
      if (moe_) {
        moe_->ExpertsBackward(lane, pass, saved.dy, saved.moe);
      } else {
        saved.d_normed = pass.until_block_end.Allocate(dtype_, {t, hidden_});
        mlp_->Backward(lane, pass, saved.mlp, saved.dy, saved.d_normed);
      }
      break;
    case Phase::kDispatch:
      if (moe_) {
        saved.d_normed = pass.until_block_end.Allocate(dtype_, {t, hidden_});
        moe_->DispatchBackward(lane, pass, tokens, saved.normed, balance_weight, saved.moe, saved.d_normed);
      }
      break;
    case Phase::kAttention: {
      // The gradient of the middle is the output gradient of o_proj: its weight gradient needs it later.
      const Tensor d_middle = pass.until_weight_grad.Allocate(dtype_, {t, hidden_});
      mlp_norm_.Backward(lane, pass, params_, saved.middle, saved.middle_rstd, saved.d_normed, saved.dy, d_middle);
      Arena::Scope scope(lane.scratch);
      const Tensor d_attention_normed = lane.scratch.Allocate(dtype_, {t, hidden_});
      attention_->Backward(lane, pass, tokens, saved.attention, d_middle, d_attention_normed);
      attention_norm_.Backward(lane, pass, params_, saved.x, saved.x_rstd, d_attention_normed, d_middle, saved.dx);
      break;
    }
  }
}

}  // namespace conclave::core
