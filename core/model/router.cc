// SPDX-License-Identifier: Apache-2.0
#include "core/model/router.h"

namespace conclave::core {

RouterLayer::RouterLayer(const ModelConfig& config, ParamSet& params, const std::string& name,
                         const std::string& hf_prefix)
    : params_(params),
      num_experts_(config.n_routed_experts),
      top_k_(config.num_experts_per_tok),
      scoring_(config.SoftmaxRouter() ? RouterArgs::Scoring::kSoftmax : RouterArgs::Scoring::kSigmoid),
      num_groups_(static_cast<int>(config.n_group)),
      groups_kept_(static_cast<int>(config.topk_group)),
      normalize_(config.norm_topk_prob),
      scale_(static_cast<float>(config.routed_scaling_factor)) {
  const int64_t hidden = config.hidden_size;
  gate_ = params.Declare({.name = name + ".gate",
                          .shape = {num_experts_, hidden},
                          .product_dtype = DType::kF32,
                          .parts = {{hf_prefix + "gate.weight", {num_experts_, hidden}, 0}}});
  if (!config.HasRouterBias()) return;
  bias_ = params.Declare({.name = name + ".bias",
                          .shape = {num_experts_},
                          .kind = ParamKind::kRouterBias,
                          .init = ParamInit::kZeros,
                          .parts = {{hf_prefix + "gate.e_score_correction_bias", {num_experts_}, 0}}});
}

RouterArgs RouterLayer::Args(const DeviceTokens& tokens, const RouterChoices& choices, const RouterSaved& saved) const {
  const bool replay = choices.use == RouterChoices::Use::kReplay;
  return {.logits = saved.logits,
          .bias = bias_ ? bias_->value : Tensor(),
          .positions = tokens.positions.MergeFirst(),
          .scoring = scoring_,
          .num_groups = num_groups_,
          .groups_kept = groups_kept_,
          .top_k = static_cast<int>(top_k_),
          .normalize = normalize_,
          .scale = scale_,
          .replayed = replay ? choices.experts : Tensor(),
          .scores = saved.scores,
          .experts = saved.experts,
          .weights = saved.weights,
          .flips = replay ? choices.flips : Tensor()};
}

void RouterLayer::Forward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x,
                          const RouterStatistics& statistics, RouterSaved& saved) const {
  const int64_t t = pass.num_tokens();
  Arena& arena = pass.SavedForInputGrad();
  saved.logits = arena.Allocate(DType::kF32, {t, num_experts_});
  saved.scores = arena.Allocate(DType::kF32, {t, num_experts_});
  saved.experts = arena.Allocate(DType::kI32, {t, top_k_});
  saved.weights = arena.Allocate(DType::kF32, {t, top_k_});
  Arena::Scope scope(lane.scratch);
  Tensor x_f32 = x;
  if (x.dtype != DType::kF32) {
    x_f32 = lane.scratch.Allocate(DType::kF32, {t, x.size(1)});
    lane.kernels.Cast(x, x_f32);
  }
  lane.kernels.Gemm({.x = x_f32, .w = gate_->forward, .bias = {}, .addend = {}, .y = saved.logits});
  const RouterChoices& choices = statistics.choices;
  lane.kernels.Router(Args(tokens, choices, saved));
  if (choices && choices.use == RouterChoices::Use::kRecord) lane.kernels.Cast(saved.experts, choices.experts);
  if (statistics.load) lane.kernels.CountExperts(saved.experts, statistics.load);
  if (!statistics.balance_loss) return;
  saved.fractions = arena.Allocate(DType::kF32, {pass.rows, num_experts_});
  lane.kernels.BalanceLoss({.scores = saved.scores.SplitFirst(pass.length),
                            .positions = tokens.positions,
                            .top_k = static_cast<int>(top_k_),
                            .fractions = saved.fractions,
                            .loss = statistics.balance_loss});
}

void RouterLayer::Backward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const RouterSaved& saved, Tensor x,
                           Tensor d_weights, float balance_weight, Tensor dx) const {
  const int64_t t = pass.num_tokens();
  const Tensor d_logits = pass.until_weight_grad.Allocate(DType::kF32, {t, num_experts_});
  lane.kernels.RouterBackward({.forward = Args(tokens, {}, saved),
                               .d_weights = d_weights,
                               .fractions = balance_weight != 0 ? saved.fractions : Tensor(),
                               .balance_scale = balance_weight / static_cast<float>(pass.batch_rows),
                               .d_logits = d_logits});
  lane.kernels.Gemm({.x = d_logits, .w = gate_->backward, .bias = {}, .addend = {}, .y = dx});
  pass.tasks.Append("gate", {.dy = d_logits,
                             .x = x,
                             .segment_offsets = pass.row_offsets,
                             .matrices = 1,
                             .product_dtype = DType::kF32,
                             .target = params_.Target(*gate_, pass.batch_rows)});
}

}  // namespace conclave::core
