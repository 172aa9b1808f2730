// SPDX-License-Identifier: Apache-2.0
// The two attentions behind one interface: multi-head latent attention (DeepSeek-V2/V3) and grouped-query attention
// (Qwen, Llama). Forward maps a normed input to residual + attention; Backward maps the gradient of that sum to the
// gradient of the normed input. Legend: T tokens = rows x S, D hidden, H heads, G key heads.
#pragma once

#include <memory>
#include <string>

#include "core/config/model_config.h"
#include "core/model/linear.h"
#include "core/model/param.h"
#include "core/model/rms_norm.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

// What is kept of earlier tokens when decoding. kExpanded: keys and values as the trainer computes them, so that
// decoding is bit-equal. kLatent (MLA): the latents that they are expanded from, which is less by far; attention then
// runs over these (absorbed), with roundings of its own.
enum class CacheKind { kExpanded, kLatent };

// Values for each token of a block.
int64_t CacheWidth(const ModelConfig& config, CacheKind kind);

// The same of one block.
struct AttentionCache {
  Tensor keys_values;  // [B, capacity, H * (n + v)] (MLA) or [B, capacity, 2 * G * head]: keys | values per position;
                       // kLatent: [B, capacity, kv_lora], normed
  Tensor shared_key;   // [B, capacity, r] (MLA): the rotary key
};

// What Forward leaves for Backward. Which tensors are set depends on the kind of attention.
struct AttentionSaved {
  Tensor normed;           // [T, D] input; until the weight gradient
  Tensor projected;        // [T, ...] output of the first projection: q (latent) | kv (latent) | rotary key
  Tensor q_latent;         // [T, q_lora] normed; until the weight gradient
  Tensor kv_latent;        // [T, kv_lora] normed; until the weight gradient
  Tensor q_rstd, kv_rstd;  // f32 [T] of the latent norms, or [T, H], [T, G] of Qwen3's head norms
  Tensor q;                // [T, H, query width], rotated
  Tensor k, v;             // [T, G, ...], k rotated (grouped-query)
  Tensor kv;               // [T, H, n + v] (MLA)
  Tensor shared_key;       // [T, 1, r] rotated (MLA)
  Tensor out;              // [T, H * v]; until the weight gradient
  Tensor lse;              // f32 [T, H]
};

class AttentionLayer {
 public:
  virtual ~AttentionLayer() = default;
  // Returns residual + attention(saved.normed) in `y`. With a cache: stores the new keys, attends to the cache.
  virtual void Forward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor residual,
                       const AttentionCache* cache, AttentionSaved& saved, Tensor y) const = 0;
  // dy [T, D] lives until the weight gradient; d_normed [T, D].
  virtual void Backward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const AttentionSaved& saved, Tensor dy,
                        Tensor d_normed) const = 0;
  // An AttentionCache for `sequences` x `capacity` tokens, in `arena`.
  virtual AttentionCache AllocateCache(Arena& arena, int64_t sequences, int64_t capacity) const = 0;
};

// `rope_table` f32 [positions, rotary dim] must outlive the layer. hf_prefix e.g. "model.layers.3.self_attn.".
std::unique_ptr<AttentionLayer> MakeMlaAttention(const ModelConfig& config, ParamSet& params, const std::string& name,
                                                 const std::string& hf_prefix, DType dtype, const Tensor& rope_table,
                                                 CacheKind cache);
std::unique_ptr<AttentionLayer> MakeGqaAttention(const ModelConfig& config, ParamSet& params, const std::string& name,
                                                 const std::string& hf_prefix, DType dtype, const Tensor& rope_table);

// Width of the rotary part of a head.
int64_t RotaryDim(const ModelConfig& config);

}  // namespace conclave::core
