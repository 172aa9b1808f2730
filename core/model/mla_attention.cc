// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention (DeepSeek-V2, section 2.1). Queries and keys/values are expanded from normed latents; one
// rotary key is shared by all heads. The two down projections read the same input and are one GEMM:
//   x -> [q_latent | kv_latent | rotary key],  q = W_qb norm(q_latent),  [k | v] = W_kvb norm(kv_latent)
// Without q-LoRA the query stands in place of its latent. Legend: n nope, r rope, v value width of a head.
#include "core/model/attention.h"

#include "core/model/rope_table.h"

namespace conclave::core {
namespace {

// The latent norms keep the default of the released code and of Transformers, whatever rms_norm_eps says.
constexpr double kLatentNormEps = 1e-6;

class MlaAttention final : public AttentionLayer {
 public:
  MlaAttention(const ModelConfig& config, ParamSet& params, const std::string& name, const std::string& prefix,
               DType dtype, const Tensor& rope_table)
      : params_(params),
        dtype_(dtype),
        heads_(config.num_attention_heads),
        nope_(config.qk_nope_head_dim),
        rope_(config.qk_rope_head_dim),
        value_(config.v_head_dim),
        q_lora_(config.q_lora_rank),
        kv_lora_(config.kv_lora_rank),
        scale_(static_cast<float>(AttentionScale(config, nope_ + rope_))),
        layout_(config.rope_interleave ? RopeLayout::kInterleaved : RopeLayout::kHalves),
        rope_table_(rope_table),
        down_(params, name + ".down", prefix,
              {{q_lora_ ? "q_a_proj" : "q_proj", q_width()}, {"kv_a_proj_with_mqa", kv_lora_ + rope_}},
              config.hidden_size, dtype),
        kv_norm_(params, name + ".kv_norm", prefix + "kv_a_layernorm", kv_lora_, kLatentNormEps),
        kv_up_(params, name + ".kv_up", prefix, {{"kv_b_proj", heads_ * (nope_ + value_)}}, kv_lora_, dtype),
        output_(params, name + ".output", prefix, {{"o_proj", config.hidden_size}}, heads_ * value_, dtype) {
    if (q_lora_ == 0) return;
    q_norm_ =
        std::make_unique<RmsNormLayer>(params, name + ".q_norm", prefix + "q_a_layernorm", q_lora_, kLatentNormEps);
    q_up_ =
        std::make_unique<Linear>(params, name + ".q_up", prefix,
                                 std::vector<Linear::Output>{{"q_b_proj", heads_ * (nope_ + rope_)}}, q_lora_, dtype);
  }

  void Forward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor residual, const AttentionCache* cache,
               AttentionSaved& saved, Tensor y) const override {
    Project(lane, pass, tokens, saved);
    const int64_t t = pass.num_tokens();
    saved.out = pass.SavedForWeightGrad().Allocate(dtype_, {t, heads_ * value_});
    saved.lse = pass.SavedForInputGrad().Allocate(DType::kF32, {t, heads_});
    AttentionArgs args = Args(pass, tokens, saved);
    if (cache) {
      const Tensor kv_rows = saved.kv.Reshape({pass.rows, pass.length, heads_ * (nope_ + value_)});
      lane.kernels.StoreInCache(kv_rows, pass.key_index, cache->keys_values);
      lane.kernels.StoreInCache(SharedKey(saved).SplitFirst(pass.length), pass.key_index, cache->shared_key);
      const Tensor cached = cache->keys_values.SplitLast(nope_ + value_);
      args.k = cached.Slice(3, 0, nope_);
      args.v = cached.Slice(3, nope_, value_);
      args.k_shared = cache->shared_key;
      args.key_index = pass.key_index;
    }
    lane.kernels.Attention(args);
    output_.Forward(lane, saved.out, residual, y);
  }

  void Backward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const AttentionSaved& saved, Tensor dy,
                Tensor d_normed) const override {
    const int64_t t = pass.num_tokens();
    Arena::Scope scope(lane.scratch);
    const Tensor d_out = lane.scratch.Allocate(dtype_, {t, heads_ * value_});
    output_.Backward(lane, pass, params_, "o_proj", saved.out, dy, d_out);

    Arena& kept = pass.until_weight_grad;
    const Tensor d_projected = kept.Allocate(dtype_, {t, q_width() + kv_lora_ + rope_});
    const Tensor d_q_projected = d_projected.Slice(1, 0, q_width());
    const Tensor dq =
        q_lora_ ? kept.Allocate(dtype_, {t, heads_, nope_ + rope_}) : d_q_projected.SplitLast(nope_ + rope_);
    const Tensor d_kv = kept.Allocate(dtype_, {t, heads_, nope_ + value_});
    const Tensor d_shared_key = d_projected.Slice(1, q_width() + kv_lora_, rope_);
    AttentionBackwardArgs args{.forward = Args(pass, tokens, saved),
                               .d_out = d_out.SplitLast(value_).SplitFirst(pass.length),
                               .dq = dq.SplitFirst(pass.length),
                               .dk = d_kv.Slice(2, 0, nope_).SplitFirst(pass.length),
                               .dk_shared = d_shared_key.SplitFirst(pass.length),
                               .dv = d_kv.Slice(2, nope_, value_).SplitFirst(pass.length)};
    const Tensor workspace = lane.scratch.Allocate(DType::kU8, {lane.kernels.AttentionBackwardWorkspace(args)});
    lane.kernels.AttentionBackward(args, workspace);
    lane.kernels.Rope(dq.Slice(2, nope_, rope_), tokens.positions, rope_table_, layout_, RopeDirection::kBackward);
    lane.kernels.Rope(d_shared_key.SplitLast(rope_), tokens.positions, rope_table_, layout_, RopeDirection::kBackward);

    if (q_lora_) {
      const Tensor d_latent = lane.scratch.Allocate(dtype_, {t, q_lora_});
      q_up_->Backward(lane, pass, params_, "q_b_proj", saved.q_latent, dq.Reshape({t, heads_ * (nope_ + rope_)}),
                      d_latent);
      q_norm_->Backward(lane, pass, params_, saved.projected.Slice(1, 0, q_lora_), saved.q_rstd, d_latent, {},
                        d_q_projected);
    }
    const Tensor d_latent = lane.scratch.Allocate(dtype_, {t, kv_lora_});
    kv_up_.Backward(lane, pass, params_, "kv_b_proj", saved.kv_latent, d_kv.Reshape({t, heads_ * (nope_ + value_)}),
                    d_latent);
    kv_norm_.Backward(lane, pass, params_, saved.projected.Slice(1, q_width(), kv_lora_), saved.kv_rstd, d_latent, {},
                      d_projected.Slice(1, q_width(), kv_lora_));
    down_.Backward(lane, pass, params_, "qkv_a_proj", saved.normed, d_projected, d_normed);
  }

  AttentionCache AllocateCache(Arena& arena, int64_t sequences, int64_t capacity) const override {
    return {.keys_values = arena.Allocate(dtype_, {sequences, capacity, heads_ * (nope_ + value_)}),
            .shared_key = arena.Allocate(dtype_, {sequences, capacity, rope_})};
  }

 private:
  int64_t q_width() const { return q_lora_ ? q_lora_ : heads_ * (nope_ + rope_); }

  // Rotary key of each token, [T, r] inside the first projection.
  Tensor SharedKey(const AttentionSaved& saved) const { return saved.projected.Slice(1, q_width() + kv_lora_, rope_); }

  // Everything before the attention itself: latents, norms, expansions, rotation.
  void Project(Lane& lane, StagePass& pass, const DeviceTokens& tokens, AttentionSaved& saved) const {
    const int64_t t = pass.num_tokens();
    Arena& until_input = pass.SavedForInputGrad();
    Arena& until_weight = pass.SavedForWeightGrad();
    saved.projected = until_input.Allocate(dtype_, {t, q_width() + kv_lora_ + rope_});
    down_.Forward(lane, saved.normed, {}, saved.projected);
    if (q_lora_) {
      saved.q_latent = until_weight.Allocate(dtype_, {t, q_lora_});
      saved.q_rstd = until_input.Allocate(DType::kF32, {t});
      q_norm_->Forward(lane, saved.projected.Slice(1, 0, q_lora_), saved.q_latent, saved.q_rstd);
      saved.q = until_input.Allocate(dtype_, {t, heads_, nope_ + rope_});
      q_up_->Forward(lane, saved.q_latent, {}, saved.q.Reshape({t, heads_ * (nope_ + rope_)}));
    } else {
      saved.q = saved.projected.Slice(1, 0, q_width()).SplitLast(nope_ + rope_);
    }
    saved.kv_latent = until_weight.Allocate(dtype_, {t, kv_lora_});
    saved.kv_rstd = until_input.Allocate(DType::kF32, {t});
    kv_norm_.Forward(lane, saved.projected.Slice(1, q_width(), kv_lora_), saved.kv_latent, saved.kv_rstd);
    saved.kv = until_input.Allocate(dtype_, {t, heads_, nope_ + value_});
    kv_up_.Forward(lane, saved.kv_latent, {}, saved.kv.Reshape({t, heads_ * (nope_ + value_)}));
    lane.kernels.Rope(saved.q.Slice(2, nope_, rope_), tokens.positions, rope_table_, layout_, RopeDirection::kForward);
    lane.kernels.Rope(SharedKey(saved).SplitLast(rope_), tokens.positions, rope_table_, layout_,
                      RopeDirection::kForward);
  }

  AttentionArgs Args(const StagePass& pass, const DeviceTokens& tokens, const AttentionSaved& saved) const {
    return {.q = saved.q.SplitFirst(pass.length),
            .k = saved.kv.Slice(2, 0, nope_).SplitFirst(pass.length),
            .k_shared = SharedKey(saved).SplitFirst(pass.length),
            .v = saved.kv.Slice(2, nope_, value_).SplitFirst(pass.length),
            .positions = tokens.positions,
            .key_index = {},
            .scale = scale_,
            .out = saved.out.SplitLast(value_).SplitFirst(pass.length),
            .lse = saved.lse.SplitFirst(pass.length)};
  }

  const ParamSet& params_;
  DType dtype_;
  int64_t heads_, nope_, rope_, value_, q_lora_, kv_lora_;
  float scale_;
  RopeLayout layout_;
  const Tensor& rope_table_;  // filled after the parameters are allocated
  Linear down_;
  RmsNormLayer kv_norm_;
  Linear kv_up_, output_;
  std::unique_ptr<RmsNormLayer> q_norm_;  // with q-LoRA
  std::unique_ptr<Linear> q_up_;
};

}  // namespace

std::unique_ptr<AttentionLayer> MakeMlaAttention(const ModelConfig& config, ParamSet& params, const std::string& name,
                                                 const std::string& hf_prefix, DType dtype, const Tensor& rope_table) {
  return std::make_unique<MlaAttention>(config, params, name, hf_prefix, dtype, rope_table);
}

int64_t RotaryDim(const ModelConfig& config) { return config.HasMla() ? config.qk_rope_head_dim : config.HeadDim(); }

}  // namespace conclave::core
