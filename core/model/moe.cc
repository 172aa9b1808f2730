// SPDX-License-Identifier: Apache-2.0
#include "core/model/moe.h"

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

// [E, rows, cols] whose parts are the Hugging Face tensors of each expert, stacked along the rows.
ParamSpec ExpertSpec(const std::string& name, const std::string& hf_prefix, const std::vector<int64_t>& experts,
                     const std::vector<std::string>& projections, int64_t rows_each, int64_t cols, DType dtype) {
  const int64_t rows = rows_each * static_cast<int64_t>(projections.size());
  ParamSpec spec{.name = name,
                 .shape = {static_cast<int64_t>(experts.size()), rows, cols},
                 .product_dtype = dtype,
                 .expert = true};
  int64_t offset = 0;
  for (int64_t expert : experts) {
    for (const std::string& projection : projections) {
      spec.parts.push_back(
          {absl::StrFormat("%sexperts.%d.%s.weight", hf_prefix, expert, projection), {rows_each, cols}, offset});
      offset += rows_each * cols;
    }
  }
  return spec;
}

}  // namespace

Moe::Moe(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange, const std::string& name,
         const std::string& hf_prefix, DType dtype)
    : params_(params),
      exchange_(std::move(exchange)),
      dtype_(dtype),
      hidden_(config.hidden_size),
      width_(config.moe_intermediate_size),
      router_(config, params, name, hf_prefix) {
  const std::vector<int64_t>& experts = exchange_->local_experts();
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
  exchange_->BeginCounts(lane, pass, saved.router.experts, saved.routed);
}

void Moe::Dispatch(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const {
  exchange_->BeginDispatch(lane, pass, x, saved.router.weights, saved.routed);
}

void Moe::Experts(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const {
  RoutedTokens& routed = saved.routed;
  exchange_->EndDispatch(lane, pass, routed);
  const Tensor& offsets = routed.permutation.expert_offsets;
  const Tensor num_rows = offsets.Slice(0, offsets.size(0) - 1, 1);
  saved.gate_up = pass.SavedForInputGrad().Allocate(dtype_, {routed.max_rows, 2 * width_});
  lane.kernels.GroupedGemm({.x = routed.x, .w = gate_up_->forward, .expert_offsets = offsets, .y = saved.gate_up});
  saved.h = pass.SavedForWeightGrad().Allocate(dtype_, {routed.max_rows, width_});
  lane.kernels.SwiGlu(saved.gate_up, routed.weight, num_rows, saved.h);
  saved.rows = pass.until_block_end.Allocate(dtype_, {routed.max_rows, hidden_});
  lane.kernels.GroupedGemm({.x = saved.h, .w = down_->forward, .expert_offsets = offsets, .y = saved.rows});
  exchange_->BeginReturn(lane, pass, saved.rows, {}, routed);
  if (!shared_) return;
  saved.shared.x = x;
  saved.shared_out = pass.until_block_end.Allocate(dtype_, {x.size(0), hidden_});
  shared_->Forward(lane, pass, saved.shared, {}, saved.shared_out);
}

void Moe::Combine(Lane& lane, StagePass& pass, Tensor residual, MoeSaved& saved, Tensor y) const {
  exchange_->EndReturn(lane, pass, saved.routed);
  lane.kernels.Combine({.rows = saved.routed.home_rows,
                        .slot = saved.routed.home_slot,
                        .shared = saved.shared_out,
                        .addend = residual,
                        .y = y});
}

void Moe::CombineBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const {
  exchange_->BeginGradients(lane, pass, dy, saved.routed);
}

void Moe::ExpertsBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const {
  RoutedTokens& routed = saved.routed;
  const Tensor& offsets = routed.permutation.expert_offsets;
  const Tensor num_rows = offsets.Slice(0, offsets.size(0) - 1, 1);
  saved.d_rows = pass.until_weight_grad.Allocate(dtype_, {routed.max_rows, hidden_});
  exchange_->EndGradients(lane, pass, routed, saved.d_rows);
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
  exchange_->BeginReturn(lane, pass, saved.rows, saved.d_weight, routed);
  if (!shared_) return;
  saved.shared_out = pass.until_block_end.Allocate(dtype_, {pass.num_tokens(), hidden_});
  shared_->Backward(lane, pass, saved.shared, dy, saved.shared_out);
}

void Moe::DispatchBackward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, float balance_weight,
                           MoeSaved& saved, Tensor dx) const {
  Arena::Scope scope(lane.scratch);
  RoutedTokens& routed = saved.routed;
  exchange_->EndReturn(lane, pass, routed);
  const Tensor d_weights = lane.scratch.Allocate(DType::kF32, {pass.num_tokens(), saved.router.weights.size(1)});
  lane.kernels.GatherChoices(routed.home_weight, {.slot = routed.home_weight_slot}, d_weights);
  const Tensor d_routed = lane.scratch.Allocate(DType::kF32, {pass.num_tokens(), hidden_});
  router_.Backward(lane, pass, tokens, saved.router, x, d_weights, balance_weight, d_routed);
  lane.kernels.Combine(
      {.rows = routed.home_rows, .slot = routed.home_slot, .shared = saved.shared_out, .addend = d_routed, .y = dx});
}

void Moe::AppendExpertTask(StagePass& pass, const char* use, const RoutedTokens& routed, Tensor x, Tensor dy,
                           const Param& param) const {
  pass.tasks.Append(use, {.dy = dy,
                          .x = x,
                          .segment_offsets = routed.permutation.segment_offsets,
                          .matrices = param.spec.shape[0],
                          .product_dtype = param.spec.product_dtype,
                          .target = params_.Target(param, pass.batch_rows)});
}

}  // namespace conclave::core
