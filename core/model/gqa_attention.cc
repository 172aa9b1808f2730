// SPDX-License-Identifier: Apache-2.0
// Grouped-query attention of Qwen2 (biases), Qwen3 (RMSNorm on each head of q and k) and Llama 3. Query, key and value
// projections read the same input and are one GEMM: x -> [q | k | v]. H query heads share G key heads.
#include "core/model/attention.h"

#include "core/model/rope_table.h"

namespace conclave::core {
namespace {

class GqaAttention final : public AttentionLayer {
 public:
  GqaAttention(const ModelConfig& config, ParamSet& params, const std::string& name, const std::string& prefix,
               DType dtype, const Tensor& rope_table)
      : params_(params),
        dtype_(dtype),
        heads_(config.num_attention_heads),
        key_heads_(config.KeyValueHeads()),
        width_(config.HeadDim()),
        scale_(static_cast<float>(AttentionScale(config, width_))),
        rope_table_(rope_table),
        qkv_(params, name + ".qkv", prefix,
             {{"q_proj", heads_ * width_, config.HasQkvBias()},
              {"k_proj", key_heads_ * width_, config.HasQkvBias()},
              {"v_proj", key_heads_ * width_, config.HasQkvBias()}},
             config.hidden_size, dtype),
        output_(params, name + ".output", prefix, {{"o_proj", config.hidden_size}}, heads_ * width_, dtype) {
    if (!config.HasQkNorm()) return;
    q_norm_ = std::make_unique<RmsNormLayer>(params, name + ".q_norm", prefix + "q_norm", width_, config.rms_norm_eps);
    k_norm_ = std::make_unique<RmsNormLayer>(params, name + ".k_norm", prefix + "k_norm", width_, config.rms_norm_eps);
  }

  void Forward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor residual, const AttentionCache* cache,
               AttentionSaved& saved, Tensor y) const override {
    const int64_t t = pass.num_tokens();
    Arena& until_input = pass.SavedForInputGrad();
    saved.projected = until_input.Allocate(dtype_, {t, (heads_ + 2 * key_heads_) * width_});
    qkv_.Forward(lane, saved.normed, {}, saved.projected);
    saved.q = Queries(saved.projected);
    saved.k = Keys(saved.projected);
    saved.v = Values(saved.projected);
    if (q_norm_) {
      saved.q = until_input.Allocate(dtype_, {t, heads_, width_});
      saved.k = until_input.Allocate(dtype_, {t, key_heads_, width_});
      saved.q_rstd = until_input.Allocate(DType::kF32, {t, heads_});
      saved.kv_rstd = until_input.Allocate(DType::kF32, {t, key_heads_});
      q_norm_->Forward(lane, Queries(saved.projected), saved.q, saved.q_rstd);
      k_norm_->Forward(lane, Keys(saved.projected), saved.k, saved.kv_rstd);
    }
    lane.kernels.Rope(saved.q, tokens.positions, rope_table_, RopeLayout::kHalves, RopeDirection::kForward);
    lane.kernels.Rope(saved.k, tokens.positions, rope_table_, RopeLayout::kHalves, RopeDirection::kForward);

    saved.out = pass.SavedForWeightGrad().Allocate(dtype_, {t, heads_ * width_});
    saved.lse = until_input.Allocate(DType::kF32, {t, heads_});
    AttentionArgs args = Args(pass, tokens, saved);
    if (cache) StoreAndReadCache(lane, pass, *cache, args);
    lane.kernels.Attention(args);
    output_.Forward(lane, saved.out, residual, y);
  }

  void Backward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const AttentionSaved& saved, Tensor dy,
                Tensor d_normed) const override {
    const int64_t t = pass.num_tokens();
    Arena::Scope scope(lane.scratch);
    const Tensor d_out = lane.scratch.Allocate(dtype_, {t, heads_ * width_});
    output_.Backward(lane, pass, params_, "o_proj", saved.out, dy, d_out);

    const Tensor d_projected = pass.until_weight_grad.Allocate(dtype_, {t, (heads_ + 2 * key_heads_) * width_});
    Tensor dq = Queries(d_projected), dk = Keys(d_projected);
    if (q_norm_) {
      dq = lane.scratch.Allocate(dtype_, {t, heads_, width_});
      dk = lane.scratch.Allocate(dtype_, {t, key_heads_, width_});
    }
    AttentionBackwardArgs args{.forward = Args(pass, tokens, saved),
                               .d_out = d_out.SplitLast(width_).SplitFirst(pass.length),
                               .dq = dq.SplitFirst(pass.length),
                               .dk = dk.SplitFirst(pass.length),
                               .dk_shared = {},
                               .dv = Values(d_projected).SplitFirst(pass.length)};
    const Tensor workspace = lane.scratch.Allocate(DType::kU8, {lane.kernels.AttentionBackwardWorkspace(args)});
    lane.kernels.AttentionBackward(args, workspace);
    lane.kernels.Rope(dq, tokens.positions, rope_table_, RopeLayout::kHalves, RopeDirection::kBackward);
    lane.kernels.Rope(dk, tokens.positions, rope_table_, RopeLayout::kHalves, RopeDirection::kBackward);
    if (q_norm_) {
      q_norm_->Backward(lane, pass, params_, Queries(saved.projected), saved.q_rstd, dq, {}, Queries(d_projected));
      k_norm_->Backward(lane, pass, params_, Keys(saved.projected), saved.kv_rstd, dk, {}, Keys(d_projected));
    }
    qkv_.Backward(lane, pass, params_, "qkv_proj", saved.normed, d_projected, d_normed);
  }

  AttentionCache AllocateCache(Arena& arena, int64_t sequences, int64_t capacity) const override {
    return {.keys_values = arena.Allocate(dtype_, {sequences, capacity, 2 * key_heads_ * width_}), .shared_key = {}};
  }

 private:
  // Views [T, heads, width] of the parts of [q | k | v].
  Tensor Queries(Tensor projected) const { return projected.Slice(1, 0, heads_ * width_).SplitLast(width_); }
  Tensor Keys(Tensor projected) const {
    return projected.Slice(1, heads_ * width_, key_heads_ * width_).SplitLast(width_);
  }
  Tensor Values(Tensor projected) const {
    return projected.Slice(1, (heads_ + key_heads_) * width_, key_heads_ * width_).SplitLast(width_);
  }

  AttentionArgs Args(const StagePass& pass, const DeviceTokens& tokens, const AttentionSaved& saved) const {
    return {.q = saved.q.SplitFirst(pass.length),
            .k = saved.k.SplitFirst(pass.length),
            .k_shared = {},
            .v = saved.v.SplitFirst(pass.length),
            .positions = tokens.positions,
            .key_index = {},
            .scale = scale_,
            .out = saved.out.SplitLast(width_).SplitFirst(pass.length),
            .lse = saved.lse.SplitFirst(pass.length)};
  }

  void StoreAndReadCache(Lane& lane, const StagePass& pass, const AttentionCache& cache, AttentionArgs& args) const {
    const int64_t half = key_heads_ * width_;
    const Tensor keys = cache.keys_values.Slice(2, 0, half), values = cache.keys_values.Slice(2, half, half);
    Arena::Scope scope(lane.scratch);
    const Tensor rows = lane.scratch.Allocate(dtype_, {pass.num_tokens(), key_heads_, width_});
    for (const auto& [source, target] : {std::pair{args.k, keys}, std::pair{args.v, values}}) {
      lane.kernels.Cast(source.MergeFirst(), rows);  // the heads of a token may be strided
      lane.kernels.StoreInCache(rows.Reshape({pass.rows, pass.length, half}), pass.key_index, target);
    }
    args.k = keys.SplitLast(width_);
    args.v = values.SplitLast(width_);
    args.key_index = pass.key_index;
  }

  const ParamSet& params_;
  DType dtype_;
  int64_t heads_, key_heads_, width_;
  float scale_;
  const Tensor& rope_table_;
  Linear qkv_, output_;
  std::unique_ptr<RmsNormLayer> q_norm_, k_norm_;  // Qwen3
};

}  // namespace

std::unique_ptr<AttentionLayer> MakeGqaAttention(const ModelConfig& config, ParamSet& params, const std::string& name,
                                                 const std::string& hf_prefix, DType dtype, const Tensor& rope_table) {
  return std::make_unique<GqaAttention>(config, params, name, hf_prefix, dtype, rope_table);
}

}  // namespace conclave::core
