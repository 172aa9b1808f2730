// SPDX-License-Identifier: Apache-2.0
// Multi-head latent attention (DeepSeek-V2, section 2.1). Queries and keys/values are expanded from normed latents; one
// rotary key is shared by all heads. The two down projections read the same input and are one GEMM:
//   x -> [q_latent | kv_latent | rotary key],  q = W_qb norm(q_latent),  [k | v] = W_kvb norm(kv_latent)
// Without q-LoRA the query stands in place of its latent. Legend: n nope, r rope, v value width of a head.
//
// With a cache of latents c nothing is expanded: q . (W_k c) = (q W_k) . c, and sum_i w_i W_v c_i = W_v (sum_i w_i c_i)
// (ibid., "absorbed"). So all heads read one key head, the latents, which are its values, too. Prompts are read in the
// same way: what a token's entry is must not depend on whether it was read or drawn, nor in what pieces.
#include "core/model/attention.h"

#include "core/model/rope_table.h"

namespace conclave::core {
namespace {

// The latent norms keep the default of the released code and of Transformers, whatever rms_norm_eps says.
constexpr double kLatentNormEps = 1e-6;

class MlaAttention final : public AttentionLayer {
 public:
  MlaAttention(const ModelConfig& config, ParamSet& params, const std::string& name, const std::string& prefix,
               DType dtype, const Tensor& rope_table, CacheKind cache)
      : params_(params),
        dtype_(dtype),
        heads_(config.num_attention_heads),
        nope_(config.qk_nope_head_dim),
        rope_(config.qk_rope_head_dim),
        value_(config.v_head_dim),
        q_lora_(config.q_lora_rank),
        kv_lora_(config.kv_lora_rank),
        cache_(cache),
        scale_(static_cast<float>(AttentionScale(config, nope_ + rope_))),
        layout_(config.rope_interleave ? RopeLayout::kInterleaved : RopeLayout::kHalves),
        rope_table_(rope_table),
        down_(params, name + ".down", prefix,
              {{q_lora_ ? "q_a_proj" : "q_proj", q_width()}, {"kv_a_proj_with_mqa", kv_lora_ + rope_}},
              config.hidden_size, dtype),
        kv_norm_(params, name + ".kv_norm", prefix + "kv_a_layernorm", kv_lora_, kLatentNormEps),
        kv_up_(params, name + ".kv_up", prefix, {{"kv_b_proj", heads_ * (nope_ + value_)}}, kv_lora_, dtype,
               HeadRows{cache == CacheKind::kLatent ? heads_ : 0, nope_, value_}),
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
    if (cache && cache_ == CacheKind::kLatent) {
      AttendToLatents(lane, pass, tokens, *cache, saved);
    } else {
      Attend(lane, pass, tokens, cache, saved);
    }
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
    const int64_t width = cache_ == CacheKind::kLatent ? kv_lora_ : heads_ * (nope_ + value_);
    return {.keys_values = arena.Allocate(dtype_, {sequences, capacity, width}),
            .shared_key = arena.Allocate(dtype_, {sequences, capacity, rope_})};
  }

 private:
  int64_t q_width() const { return q_lora_ ? q_lora_ : heads_ * (nope_ + rope_); }

  // Rotary key of each token, [T, r] inside the first projection.
  Tensor SharedKey(const AttentionSaved& saved) const { return saved.projected.Slice(1, q_width() + kv_lora_, rope_); }

  // Latents, norms, queries, rotation.
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
    lane.kernels.Rope(saved.q.Slice(2, nope_, rope_), tokens.positions, rope_table_, layout_, RopeDirection::kForward);
    lane.kernels.Rope(SharedKey(saved).SplitLast(rope_), tokens.positions, rope_table_, layout_,
                      RopeDirection::kForward);
  }

  void Attend(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const AttentionCache* cache,
              AttentionSaved& saved) const {
    const int64_t t = pass.num_tokens(), width = heads_ * (nope_ + value_);
    saved.kv = pass.SavedForInputGrad().Allocate(dtype_, {t, heads_, nope_ + value_});
    kv_up_.Forward(lane, saved.kv_latent, {}, saved.kv.Reshape({t, width}));
    AttentionArgs args = Args(pass, tokens, saved);
    if (cache) {
      const Tensor cached = cache->keys_values.SplitLast(nope_ + value_);
      lane.kernels.StoreInCache(saved.kv.Reshape({pass.rows, pass.length, width}), pass.key_index, cache->keys_values);
      args.k = cached.Slice(3, 0, nope_);
      args.v = cached.Slice(3, nope_, value_);
      ReadSharedKeys(lane, pass, *cache, saved, args);
    }
    lane.kernels.Attention(args);
  }

  void AttendToLatents(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const AttentionCache& cache,
                       AttentionSaved& saved) const {
    const int64_t t = pass.num_tokens();
    const Tensor latents = cache.keys_values.SplitLast(kv_lora_);  // [B, capacity, 1, kv_lora]
    lane.kernels.StoreInCache(saved.kv_latent.SplitFirst(pass.length), pass.key_index, cache.keys_values);
    Arena::Scope scope(lane.scratch);
    const Tensor q = lane.scratch.Allocate(dtype_, {t, heads_, kv_lora_ + rope_});
    const Tensor sums = lane.scratch.Allocate(dtype_, {t, heads_, kv_lora_});
    lane.kernels.HeadGemm(
        {.x = saved.q.Slice(2, 0, nope_), .w = kv_up_.weight().key_heads, .y = q.Slice(2, 0, kv_lora_)});
    lane.kernels.Cast(saved.q.Slice(2, nope_, rope_), q.Slice(2, kv_lora_, rope_));
    AttentionArgs args{.q = q.SplitFirst(pass.length),
                       .k = latents,
                       .k_shared = {},
                       .v = latents,
                       .positions = tokens.positions,
                       .key_index = {},
                       .scale = scale_,
                       .out = sums.SplitFirst(pass.length),
                       .lse = saved.lse.SplitFirst(pass.length)};
    ReadSharedKeys(lane, pass, cache, saved, args);
    lane.kernels.Attention(args);
    lane.kernels.HeadGemm({.x = sums, .w = kv_up_.weight().value_heads, .y = saved.out.SplitLast(value_)});
  }

  // Stores the rotary keys of the pass and has `args` read from the cache.
  void ReadSharedKeys(Lane& lane, const StagePass& pass, const AttentionCache& cache, const AttentionSaved& saved,
                      AttentionArgs& args) const {
    lane.kernels.StoreInCache(SharedKey(saved).SplitFirst(pass.length), pass.key_index, cache.shared_key);
    args.k_shared = cache.shared_key;
    args.key_index = pass.key_index;
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
  CacheKind cache_;
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
                                                 const std::string& hf_prefix, DType dtype, const Tensor& rope_table,
                                                 CacheKind cache) {
  return std::make_unique<MlaAttention>(config, params, name, hf_prefix, dtype, rope_table, cache);
}

int64_t CacheWidth(const ModelConfig& config, CacheKind kind) {
  if (!config.HasMla()) return 2 * config.KeyValueHeads() * config.HeadDim();
  if (kind == CacheKind::kLatent) return config.kv_lora_rank + config.qk_rope_head_dim;
  return config.num_attention_heads * (config.qk_nope_head_dim + config.v_head_dim) + config.qk_rope_head_dim;
}

int64_t RotaryDim(const ModelConfig& config) { return config.HasMla() ? config.qk_rope_head_dim : config.HeadDim(); }

}  // namespace conclave::core
