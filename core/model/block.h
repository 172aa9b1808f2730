// SPDX-License-Identifier: Apache-2.0
// A transformer block in phases, so that the exchange of one micro-batch can run under the compute of another:
//   forward   Attention, Dispatch, Experts, Combine      backward  Combine, Experts, Dispatch, Attention
// Attention holds norm, attention, residual, norm and router; a dense block has empty exchange phases and its MLP is
// the Experts phase. Running a block is walking kForwardPhases or kBackwardPhases; overlap is another table.
#pragma once

#include <memory>
#include <string>

#include "core/config/model_config.h"
#include "core/model/attention.h"
#include "core/model/mlp.h"
#include "core/model/moe.h"
#include "core/model/rms_norm.h"

namespace conclave::core {

enum class Phase { kAttention, kDispatch, kExperts, kCombine };
inline constexpr Phase kForwardPhases[] = {Phase::kAttention, Phase::kDispatch, Phase::kExperts, Phase::kCombine};
inline constexpr Phase kBackwardPhases[] = {Phase::kCombine, Phase::kExperts, Phase::kDispatch, Phase::kAttention};

struct BlockSaved {
  Tensor x;       // [T, D] input
  Tensor x_rstd;  // f32 [T]
  AttentionSaved attention;
  Tensor middle;       // [T, D] after the attention's residual
  Tensor middle_rstd;  // f32 [T]
  Tensor normed;       // [T, D] input of MLP or experts; until the weight gradient
  MlpSaved mlp;
  MoeSaved moe;
  Tensor y;         // [T, D] output
  Tensor dy;        // [T, D] its gradient; until the weight gradient
  Tensor d_normed;  // [T, D] between phases of backward
  Tensor dx;        // [T, D] gradient of the input
};

class Block {
 public:
  // `layer` counts from 0; multi-token-prediction blocks go on after the last. `exchange`: of MoE layers.
  Block(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange, int64_t layer,
        DType dtype, const Tensor& rope_table, CacheKind cache = CacheKind::kExpanded);

  // saved.x is set; Combine writes saved.y (allocated by the caller).
  void Forward(Phase phase, Lane& lane, StagePass& pass, const DeviceTokens& tokens, const RouterStatistics& statistics,
               const AttentionCache* cache, BlockSaved& saved) const;
  // saved.dy is set; Attention writes saved.dx (allocated by the caller).
  void Backward(Phase phase, Lane& lane, StagePass& pass, const DeviceTokens& tokens, float balance_weight,
                BlockSaved& saved) const;

  const Moe* moe() const { return moe_.get(); }
  const RouterLayer* router() const { return moe_ ? &moe_->router() : nullptr; }
  const AttentionLayer& attention() const { return *attention_; }

 private:
  const ParamSet& params_;
  DType dtype_;
  int64_t hidden_;
  RmsNormLayer attention_norm_;
  std::unique_ptr<AttentionLayer> attention_;
  RmsNormLayer mlp_norm_;
  std::unique_ptr<Mlp> mlp_;  // exactly one of the two
  std::unique_ptr<Moe> moe_;
};

}  // namespace conclave::core
