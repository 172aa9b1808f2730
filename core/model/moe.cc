// SPDX-License-Identifier: Apache-2.0
#include "core/model/moe.h"

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

// [E, rows, cols] whose parts are the Hugging Face tensors of each expert, stacked along the rows.
ParamSpec ExpertSpec(const std::string& name, const std::string& hf_prefix, int64_t experts,
                     const std::vector<std::string>& projections, int64_t rows_each, int64_t cols, DType dtype) {
  const int64_t rows = rows_each * static_cast<int64_t>(projections.size());
  ParamSpec spec{.name = name, .shape = {experts, rows, cols}, .product_dtype = dtype};
  for (int64_t e = 0; e < experts; ++e) {
    for (size_t i = 0; i < projections.size(); ++i) {
      spec.parts.push_back({absl::StrFormat("%sexperts.%d.%s.weight", hf_prefix, e, projections[i]),
                            {rows_each, cols},
                            (e * rows + static_cast<int64_t>(i) * rows_each) * cols});
    }
  }
  return spec;
}

}  // namespace

Moe::Moe(const ModelConfig& config, ParamSet& params, TokenExchange& exchange, const std::string& name,
         const std::string& hf_prefix, DType dtype)
    : params_(params),
      exchange_(exchange),
      dtype_(dtype),
      hidden_(config.hidden_size),
      width_(config.moe_intermediate_size),
      router_(config, params, name, hf_prefix) {
  const int64_t experts = config.n_routed_experts;
  gate_up_ = params.Declare(
      ExpertSpec(name + ".experts.gate_up", hf_prefix, experts, {"gate_proj", "up_proj"}, width_, hidden_, dtype));
  down_ = params.Declare(ExpertSpec(name + ".experts.down", hf_prefix, experts, {"down_proj"}, hidden_, width_, dtype));
  if (config.n_shared_experts > 0) {
    shared_ = std::make_unique<Mlp>(params, name + ".shared", hf_prefix + "shared_experts.", hidden_,
                                    width_ * config.n_shared_experts, dtype);
  }
}

void Moe::Route(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, const RouterStatistics& statistics,
                MoeSaved& saved) const {
  router_.Forward(lane, pass, tokens, x, statistics, saved.router);
}

void Moe::Dispatch(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const {
  exchange_.BeginDispatch(lane, pass, x, saved.router.experts, saved.router.weights, saved.routed);
  exchange_.EndDispatch(lane, pass, saved.routed);
}

void Moe::Experts(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const {
  const RoutedTokens& routed = saved.routed;
  const Tensor& offsets = routed.permutation.expert_offsets;
  const Tensor num_rows = offsets.Slice(0, router_.num_experts(), 1);
  saved.gate_up = pass.SavedForInputGrad().Allocate(dtype_, {routed.max_rows, 2 * width_});
  lane.kernels.GroupedGemm({.x = routed.x, .w = gate_up_->forward, .expert_offsets = offsets, .y = saved.gate_up});
  saved.h = pass.SavedForWeightGrad().Allocate(dtype_, {routed.max_rows, width_});
  lane.kernels.SwiGlu(saved.gate_up, routed.weight, num_rows, saved.h);
  saved.rows = pass.until_block_end.Allocate(dtype_, {routed.max_rows, hidden_});
  lane.kernels.GroupedGemm({.x = saved.h, .w = down_->forward, .expert_offsets = offsets, .y = saved.rows});
  exchange_.BeginCombine(lane, pass, routed, saved.rows);
  if (!shared_) return;
  saved.shared.x = x;
  saved.shared_out = pass.until_block_end.Allocate(dtype_, {x.size(0), hidden_});
  shared_->Forward(lane, pass, saved.shared, {}, saved.shared_out);
}

void Moe::Combine(Lane& lane, StagePass& pass, Tensor residual, MoeSaved& saved, Tensor y) const {
  exchange_.EndCombine(lane, pass, saved.routed, saved.rows, saved.shared_out, residual, y);
}

void Moe::CombineBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const {
  exchange_.BeginCombineBackward(lane, pass, saved.routed, dy);
  saved.d_rows = pass.until_weight_grad.Allocate(dtype_, {saved.routed.max_rows, hidden_});
  exchange_.EndCombineBackward(lane, pass, saved.routed, dy, saved.d_rows);
}

void Moe::ExpertsBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const {
  const RoutedTokens& routed = saved.routed;
  const Tensor& offsets = routed.permutation.expert_offsets;
  const Tensor num_rows = offsets.Slice(0, router_.num_experts(), 1);
  {
    Arena::Scope scope(lane.scratch);
    const Tensor dh = lane.scratch.Allocate(dtype_, {routed.max_rows, width_});
    lane.kernels.GroupedGemm({.x = saved.d_rows, .w = down_->backward, .expert_offsets = offsets, .y = dh});
    AppendExpertTask(pass, "experts.down_proj", routed, saved.h, saved.d_rows, *down_);
    const Tensor d_gate_up = pass.until_weight_grad.Allocate(dtype_, {routed.max_rows, 2 * width_});
    saved.d_weight = pass.until_block_end.Allocate(DType::kF32, {routed.max_rows});
    lane.kernels.SwiGluBackward(saved.gate_up, routed.weight, num_rows, dh, d_gate_up, saved.d_weight);
    saved.rows = pass.until_block_end.Allocate(dtype_, {routed.max_rows, hidden_});
    lane.kernels.GroupedGemm({.x = d_gate_up, .w = gate_up_->backward, .expert_offsets = offsets, .y = saved.rows});
    AppendExpertTask(pass, "experts.gate_up_proj", routed, routed.x, d_gate_up, *gate_up_);
  }
  if (!shared_) return;
  saved.shared_out = pass.until_block_end.Allocate(dtype_, {pass.num_tokens(), hidden_});
  shared_->Backward(lane, pass, saved.shared, dy, saved.shared_out);
}

void Moe::DispatchBackward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, float balance_weight,
                           MoeSaved& saved, Tensor dx) const {
  Arena::Scope scope(lane.scratch);
  const Tensor d_weights = lane.scratch.Allocate(DType::kF32, {pass.num_tokens(), saved.router.weights.size(1)});
  exchange_.BeginDispatchBackward(lane, pass, saved.routed, saved.rows, saved.d_weight, d_weights);
  const Tensor d_routed = lane.scratch.Allocate(DType::kF32, {pass.num_tokens(), hidden_});
  router_.Backward(lane, pass, tokens, saved.router, x, d_weights, balance_weight, d_routed);
  exchange_.EndDispatchBackward(lane, pass, saved.routed, saved.rows, saved.shared_out, d_routed, dx);
}

void Moe::AppendExpertTask(StagePass& pass, const char* use, const RoutedTokens& routed, Tensor x, Tensor dy,
                           const Param& param) const {
  pass.tasks.Append(use, {.dy = dy,
                          .x = x,
                          .segment_offsets = routed.permutation.segment_offsets,
                          .matrices = router_.num_experts(),
                          .product_dtype = param.spec.product_dtype,
                          .target = params_.Target(param, pass.batch_rows)});
}

}  // namespace conclave::core
