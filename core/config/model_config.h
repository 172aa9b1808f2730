// SPDX-License-Identifier: Apache-2.0
// The architecture of a model, with the names of Hugging Face's config.json. One struct serves all families; which
// fields matter follows from model_type. `model:` in a YAML file and config.json of a folder fill the same struct.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace conclave::core {

struct RopeScalingConfig {
  std::string type;  // "" = none; yarn (DeepSeek), llama3
  double factor = 1;
  int64_t original_max_position_embeddings = 4096;
  double beta_fast = 32, beta_slow = 1, mscale = 1, mscale_all_dim = 0;  // yarn
  double low_freq_factor = 1, high_freq_factor = 4;                      // llama3

  bool operator==(const RopeScalingConfig&) const = default;

  template <class V>
  void VisitFields(V& v) {
    v.Field("type", type, "", "yarn | llama3; empty = none");
    v.Field("factor", factor, "", "how far beyond the original length positions reach");
    v.Field("original_max_position_embeddings", original_max_position_embeddings, "tokens",
            "length before the extension");
    v.Field("beta_fast", beta_fast, "rotations", "yarn: rotations above which a frequency is kept");
    v.Field("beta_slow", beta_slow, "rotations", "yarn: rotations below which a frequency is divided by factor");
    v.Field("mscale", mscale, "", "yarn: weight of the correction of the cosine and sine tables");
    v.Field("mscale_all_dim", mscale_all_dim, "", "yarn: weight of the correction of the softmax scale; 0 = none");
    v.Field("low_freq_factor", low_freq_factor, "",
            "llama3: wavelengths above original length / this are divided by factor");
    v.Field("high_freq_factor", high_freq_factor, "", "llama3: wavelengths below original length / this are kept");
  }
};

struct ModelConfig {
  std::string from;                        // a Hugging Face folder; then nothing else of this struct is given
  std::string model_type = "deepseek_v3";  // deepseek_v3 | qwen2 | qwen3 | qwen3_moe | llama
  int64_t vocab_size = 0;                  // 0: that of the tokenizer
  int64_t hidden_size = 256;
  int64_t intermediate_size = 512;
  int64_t num_hidden_layers = 4;
  int64_t num_attention_heads = 4;
  int64_t num_key_value_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;             // 0: hidden_size / heads
  int64_t max_position_embeddings = 4096;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScalingConfig rope_scaling;
  bool rope_interleave = true;  // deepseek_v3: pairs (2i, 2i + 1); the others: (i, i + r / 2)
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  int64_t bos_token_id = -1, eos_token_id = -1;
  // Multi-head latent attention (deepseek_v3)
  int64_t q_lora_rank = 0;  // 0: plain q_proj
  int64_t kv_lora_rank = 64, qk_nope_head_dim = 32, qk_rope_head_dim = 16, v_head_dim = 32;
  // Experts
  int64_t n_routed_experts = 0;  // 0: dense model. Read from num_experts (qwen3_moe), too
  int64_t n_shared_experts = 0;
  int64_t num_experts_per_tok = 0;
  int64_t moe_intermediate_size = 0;
  int64_t first_k_dense_replace = 0;
  int64_t n_group = 1, topk_group = 1;
  double routed_scaling_factor = 1;
  bool norm_topk_prob = true;
  int64_t decoder_sparse_step = 1;       // qwen3_moe
  std::vector<int64_t> mlp_only_layers;  // qwen3_moe
  int64_t num_nextn_predict_layers = 0;

  bool HasMla() const { return model_type == "deepseek_v3"; }
  bool HasQkNorm() const { return model_type == "qwen3" || model_type == "qwen3_moe"; }
  bool HasQkvBias() const { return model_type == "qwen2"; }
  bool SoftmaxRouter() const { return model_type == "qwen3_moe"; }
  bool HasRouterBias() const { return model_type == "deepseek_v3"; }
  int64_t KeyValueHeads() const {
    return HasMla() || num_key_value_heads == 0 ? num_attention_heads : num_key_value_heads;
  }
  // Width of a query or key; for MLA the part without rotation plus the rotary part.
  int64_t HeadDim() const {
    return HasMla() ? qk_nope_head_dim + qk_rope_head_dim : head_dim > 0 ? head_dim : hidden_size / num_attention_heads;
  }
  // True if block `layer` (MTP blocks count on from num_hidden_layers) routes to experts.
  bool IsMoe(int64_t layer) const;

  bool operator==(const ModelConfig&) const = default;

  template <class V>
  void VisitFields(V& v) {
    v.Field("from", from, "path",
            "start from this Hugging Face folder (its config.json and weights); excludes the other keys");
    v.Field("model_type", model_type, "", "deepseek_v3 | qwen2 | qwen3 | qwen3_moe | llama");
    v.Field("vocab_size", vocab_size, "tokens", "rows of embedding and head; 0 = size of the tokenizer");
    v.Field("hidden_size", hidden_size, "features", "width of the residual stream");
    v.Field("intermediate_size", intermediate_size, "features", "width of a dense MLP");
    v.Field("num_hidden_layers", num_hidden_layers, "blocks", "blocks, without those for multi-token prediction");
    v.Field("num_attention_heads", num_attention_heads, "heads", "query heads");
    v.Field("num_key_value_heads", num_key_value_heads, "heads",
            "key heads of grouped-query attention; 0 = as many as query heads");
    v.Field("head_dim", head_dim, "features", "width of a head outside of MLA; 0 = hidden_size / num_attention_heads");
    v.Field("max_position_embeddings", max_position_embeddings, "tokens", "largest number of positions");
    v.Field("rms_norm_eps", rms_norm_eps, "", "added to the mean square");
    v.Field("rope_theta", rope_theta, "", "base of the rotary frequencies");
    v.Field("rope_scaling", rope_scaling, "", "length extension of the rotary embedding");
    v.Field("rope_interleave", rope_interleave, "", "deepseek_v3: rotate neighbours (true) or halves (false)");
    v.Field("tie_word_embeddings", tie_word_embeddings, "", "the head is the embedding");
    v.Field("initializer_range", initializer_range, "", "standard deviation of initial matrices (see train.init_std)");
    v.Field("bos_token_id", bos_token_id, "token id", "first token of a document; -1 = that of the tokenizer");
    v.Field("eos_token_id", eos_token_id, "token id", "last token of a document; -1 = that of the tokenizer");
    v.Field("q_lora_rank", q_lora_rank, "features", "MLA: width of the query latent; 0 = plain q_proj");
    v.Field("kv_lora_rank", kv_lora_rank, "features", "MLA: width of the key-value latent");
    v.Field("qk_nope_head_dim", qk_nope_head_dim, "features", "MLA: width of a head's key without rotation");
    v.Field("qk_rope_head_dim", qk_rope_head_dim, "features", "MLA: width of the shared rotary key");
    v.Field("v_head_dim", v_head_dim, "features", "MLA: width of a head's value");
    v.Field("n_routed_experts", n_routed_experts, "experts", "routed experts per block; 0 = dense model");
    v.Field("n_shared_experts", n_shared_experts, "experts",
            "experts that every token visits (one MLP of n times the width)");
    v.Field("num_experts_per_tok", num_experts_per_tok, "experts", "routed experts per token");
    v.Field("moe_intermediate_size", moe_intermediate_size, "features", "width of an expert");
    v.Field("first_k_dense_replace", first_k_dense_replace, "blocks", "leading blocks with a dense MLP");
    v.Field("n_group", n_group, "groups", "groups of experts");
    v.Field("topk_group", topk_group, "groups", "groups a token may choose from");
    v.Field("routed_scaling_factor", routed_scaling_factor, "", "factor on the normalized expert weights");
    v.Field("norm_topk_prob", norm_topk_prob, "", "expert weights sum to one before the factor");
    v.Field("decoder_sparse_step", decoder_sparse_step, "blocks", "qwen3_moe: every n-th block routes");
    v.Field("mlp_only_layers", mlp_only_layers, "block numbers", "qwen3_moe: blocks with a dense MLP all the same");
    v.Field("num_nextn_predict_layers", num_nextn_predict_layers, "blocks", "depth of multi-token prediction");
  }
};

// Sizes that fit together; the message starts with "model.KEY: ".
absl::Status Validate(const ModelConfig& config);

// bf16 kernels read pairs along every product's inner size: all widths must be even.
absl::Status ValidateForBf16(const ModelConfig& config);

}  // namespace conclave::core
