// SPDX-License-Identifier: Apache-2.0
// Which sizes make a model. Keys that mean nothing to a family must keep their defaults: whoever sets one expects an
// effect.
#include "core/config/model_config.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/config/checks.h"
#include "core/config/key_table.h"

namespace conclave::core {
namespace {

constexpr int64_t kMaxSize = 1 << 20;  // of one dimension: products of two stay far below 2^63
constexpr int64_t kMaxLayers = 1024;   // blocks; also heads' and experts' bound below
constexpr int64_t kMaxExperts = 1024;
constexpr int64_t kMaxRouterChoices = 32;  // experts per token and groups: the router keeps them on the stack
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxPositions = 1 << 30;
constexpr double kMaxParameters = 0x1p46;  // 70 trillion: int64 gradients and offsets in bytes keep 14 bits to spare

enum Family : unsigned { kDeepseekV3 = 1, kQwen2 = 2, kQwen3 = 4, kQwen3Moe = 8, kLlama = 16 };

unsigned FamilyOf(const std::string& model_type) {
  if (model_type == "deepseek_v3") return kDeepseekV3;
  if (model_type == "qwen2") return kQwen2;
  if (model_type == "qwen3") return kQwen3;
  return model_type == "qwen3_moe" ? kQwen3Moe : kLlama;
}

struct SpecialKey {
  const char* key;
  unsigned families;   // the families that know the key
  bool needs_experts;  // means nothing without routed experts
};

constexpr SpecialKey kSpecialKeys[] = {
    {"head_dim", kQwen2 | kQwen3 | kQwen3Moe | kLlama, false},
    {"rope_interleave", kDeepseekV3, false},
    {"q_lora_rank", kDeepseekV3, false},
    {"kv_lora_rank", kDeepseekV3, false},
    {"qk_nope_head_dim", kDeepseekV3, false},
    {"qk_rope_head_dim", kDeepseekV3, false},
    {"v_head_dim", kDeepseekV3, false},
    {"n_routed_experts", kDeepseekV3 | kQwen3Moe, false},
    {"n_shared_experts", kDeepseekV3, true},
    {"num_experts_per_tok", kDeepseekV3 | kQwen3Moe, true},
    {"moe_intermediate_size", kDeepseekV3 | kQwen3Moe, true},
    {"first_k_dense_replace", kDeepseekV3, true},
    {"n_group", kDeepseekV3, true},
    {"topk_group", kDeepseekV3, true},
    {"routed_scaling_factor", kDeepseekV3, true},
    {"norm_topk_prob", kDeepseekV3 | kQwen3Moe, true},
    {"decoder_sparse_step", kQwen3Moe, true},
    {"mlp_only_layers", kQwen3Moe, true},
    {"num_nextn_predict_layers", kDeepseekV3, false},
};

absl::Status ValidateMeaning(const ModelConfig& model) {
  const std::vector<KeyValue> values = AllValues(model), defaults = AllValues(ModelConfig());
  const auto text_of = [](const std::vector<KeyValue>& list, std::string_view key) {
    return std::find_if(list.begin(), list.end(), [&](const KeyValue& value) { return value.path == key; })->text;
  };
  for (const SpecialKey& special : kSpecialKeys) {
    const std::string text = text_of(values, special.key), default_text = text_of(defaults, special.key);
    if (text == default_text) continue;
    const bool known = (special.families & FamilyOf(model.model_type)) != 0;
    if (known && !(special.needs_experts && model.n_routed_experts == 0)) continue;
    return absl::InvalidArgumentError(absl::StrFormat(
        "model.%s: %s has no effect %s; remove it (default %s)", special.key, text,
        known ? std::string("without model.n_routed_experts") : "in model_type " + model.model_type, default_text));
  }
  return absl::OkStatus();
}

absl::Status ValidateSizes(const ModelConfig& model) {
  RETURN_IF_ERROR(InRange("model.vocab_size", model.vocab_size, 0, kMaxSize));
  RETURN_IF_ERROR(InRange("model.hidden_size", model.hidden_size, 1, kMaxSize));
  RETURN_IF_ERROR(InRange("model.intermediate_size", model.intermediate_size, 1, kMaxSize));
  RETURN_IF_ERROR(InRange("model.num_hidden_layers", model.num_hidden_layers, 1, kMaxLayers));
  RETURN_IF_ERROR(InRange("model.max_position_embeddings", model.max_position_embeddings, 1, kMaxPositions));
  RETURN_IF_ERROR(InRange("model.num_nextn_predict_layers", model.num_nextn_predict_layers, 0, 16));
  RETURN_IF_ERROR(InRange("model.rms_norm_eps", model.rms_norm_eps, 1e-20, 1.0));
  RETURN_IF_ERROR(InRange("model.initializer_range", model.initializer_range, 0.0, 10.0));
  const int64_t last_id = model.vocab_size > 0 ? model.vocab_size - 1 : kMaxSize;
  RETURN_IF_ERROR(InRange("model.bos_token_id", model.bos_token_id, -1, last_id));
  return InRange("model.eos_token_id", model.eos_token_id, -1, last_id);
}

absl::Status ValidateHeads(const ModelConfig& model) {
  const int64_t heads = model.num_attention_heads, key_heads = model.num_key_value_heads;
  RETURN_IF_ERROR(InRange("model.num_attention_heads", heads, 1, kMaxHeads));
  RETURN_IF_ERROR(InRange("model.num_key_value_heads", key_heads, 0, heads));
  if (model.HasMla()) {
    if (key_heads != 0 && key_heads != heads) {
      return Refuse(
          "model.num_key_value_heads", key_heads,
          absl::StrFormat("differs from model.num_attention_heads, %d; latent attention has one key per head", heads));
    }
    RETURN_IF_ERROR(InRange("model.q_lora_rank", model.q_lora_rank, 0, kMaxSize));
    RETURN_IF_ERROR(InRange("model.kv_lora_rank", model.kv_lora_rank, 1, kMaxSize));
    RETURN_IF_ERROR(InRange("model.qk_nope_head_dim", model.qk_nope_head_dim, 1, kMaxSize / heads));
    RETURN_IF_ERROR(InRange("model.qk_rope_head_dim", model.qk_rope_head_dim, 2, kMaxSize / heads));
    RETURN_IF_ERROR(InRange("model.v_head_dim", model.v_head_dim, 1, kMaxSize / heads));
    if (model.qk_rope_head_dim % 2 != 0) {
      return Refuse("model.qk_rope_head_dim", model.qk_rope_head_dim, "is odd; rotation acts on pairs");
    }
    return absl::OkStatus();
  }
  if (heads % model.KeyValueHeads() != 0) {
    return Refuse(
        "model.num_key_value_heads", key_heads,
        absl::StrFormat("does not divide model.num_attention_heads, %d; each key head serves equally many", heads));
  }
  RETURN_IF_ERROR(InRange("model.head_dim", model.head_dim, 0, kMaxSize / heads));
  if (model.head_dim == 0 && model.hidden_size % heads != 0) {
    return Refuse("model.num_attention_heads", heads,
                  absl::StrFormat("does not divide model.hidden_size, %d; change one, or give model.head_dim",
                                  model.hidden_size));
  }
  if (model.HeadDim() % 2 != 0) return Refuse("model.head_dim", model.HeadDim(), "is odd; rotation acts on pairs");
  return absl::OkStatus();
}

absl::Status ValidateRope(const ModelConfig& model) {
  RETURN_IF_ERROR(InRange("model.rope_theta", model.rope_theta, 2.0, 1e15));
  const RopeScalingConfig& scaling = model.rope_scaling;
  if (scaling.type.empty()) {
    if (scaling == RopeScalingConfig()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "model.rope_scaling.type: \"\" means none, but other keys of rope_scaling are given");
  }
  RETURN_IF_ERROR(IsOneOf("model.rope_scaling.type", scaling.type, {"yarn", "llama3"}));
  const bool yarn = scaling.type == "yarn";
  if (model.model_type != (yarn ? "deepseek_v3" : "llama")) {
    return Refuse("model.rope_scaling.type", scaling.type, "is not computed for model_type " + model.model_type);
  }
  RETURN_IF_ERROR(InRange("model.rope_scaling.factor", scaling.factor, 1.0, 1e6));
  RETURN_IF_ERROR(InRange("model.rope_scaling.original_max_position_embeddings",
                          scaling.original_max_position_embeddings, 1, kMaxPositions));
  if (!yarn) {
    RETURN_IF_ERROR(InRange("model.rope_scaling.low_freq_factor", scaling.low_freq_factor, 1e-6, 1e6));
    if (scaling.high_freq_factor > scaling.low_freq_factor) return absl::OkStatus();
    return Refuse("model.rope_scaling.high_freq_factor", scaling.high_freq_factor, "must be above low_freq_factor");
  }
  RETURN_IF_ERROR(InRange("model.rope_scaling.beta_slow", scaling.beta_slow, 1e-6, 1e6));
  if (!(scaling.beta_fast > scaling.beta_slow)) {
    return Refuse("model.rope_scaling.beta_fast", scaling.beta_fast, "must be above beta_slow");
  }
  RETURN_IF_ERROR(InRange("model.rope_scaling.mscale_all_dim", scaling.mscale_all_dim, 0.0, 1e3));
  RETURN_IF_ERROR(InRange("model.rope_scaling.mscale", scaling.mscale, 0.0, 1e3));
  // Transformers ignores either one without the other, DeepSeek's own code does not.
  if (scaling.mscale_all_dim == 0 ? scaling.mscale != 1 : scaling.mscale == 0) {
    return Refuse(
        "model.rope_scaling.mscale", scaling.mscale,
        absl::StrFormat("beside mscale_all_dim %s is read differently by different programs; give both above 0, or "
                        "mscale 1 and mscale_all_dim 0",
                        ValueText(scaling.mscale_all_dim)));
  }
  return absl::OkStatus();
}

absl::Status ValidateGroups(const ModelConfig& model) {
  const int64_t experts = model.n_routed_experts;
  RETURN_IF_ERROR(InRange("model.n_group", model.n_group, 1, std::min(experts, kMaxRouterChoices)));
  RETURN_IF_ERROR(InRange("model.topk_group", model.topk_group, 1, model.n_group));
  if (experts % model.n_group != 0) {
    return Refuse("model.n_group", model.n_group,
                  absl::StrFormat("does not divide model.n_routed_experts, %d", experts));
  }
  if (model.n_group > 1 && experts / model.n_group < 2) {
    return Refuse("model.n_group", model.n_group,
                  "leaves one expert per group; a group's score is the sum of its best two");
  }
  const int64_t within_reach = experts / model.n_group * model.topk_group;
  if (model.num_experts_per_tok > within_reach) {
    return Refuse("model.num_experts_per_tok", model.num_experts_per_tok,
                  absl::StrFormat("is more than the %d experts within reach of a token", within_reach));
  }
  return absl::OkStatus();
}

absl::Status ValidateExperts(const ModelConfig& model) {
  RETURN_IF_ERROR(InRange("model.n_routed_experts", model.n_routed_experts, 0, kMaxExperts));
  if (model.n_routed_experts == 0) return absl::OkStatus();
  RETURN_IF_ERROR(InRange("model.num_experts_per_tok", model.num_experts_per_tok, 1,
                          std::min(model.n_routed_experts, kMaxRouterChoices)));
  RETURN_IF_ERROR(InRange("model.moe_intermediate_size", model.moe_intermediate_size, 1, kMaxSize));
  RETURN_IF_ERROR(InRange("model.n_shared_experts", model.n_shared_experts, 0, kMaxSize / model.moe_intermediate_size));
  RETURN_IF_ERROR(InRange("model.first_k_dense_replace", model.first_k_dense_replace, 0, model.num_hidden_layers));
  RETURN_IF_ERROR(InRange("model.routed_scaling_factor", model.routed_scaling_factor, 1e-6, 1e6));
  RETURN_IF_ERROR(InRange("model.decoder_sparse_step", model.decoder_sparse_step, 1, kMaxLayers));
  for (const int64_t layer : model.mlp_only_layers) {
    RETURN_IF_ERROR(InRange("model.mlp_only_layers", layer, 0, model.num_hidden_layers - 1));
  }
  return ValidateGroups(model);
}

// An upper bound, in double: no product of sizes can wrap.
absl::Status ValidateParameters(const ModelConfig& model) {
  const double hidden = static_cast<double>(model.hidden_size), heads = static_cast<double>(model.num_attention_heads);
  const double per_head =
      static_cast<double>(model.HasMla() ? 2 * model.HeadDim() + model.v_head_dim : 4 * model.HeadDim());
  const double latent = model.HasMla() ? static_cast<double>(model.q_lora_rank + model.kv_lora_rank) : 0;
  const double attention = (hidden + latent) * (per_head * heads + latent);
  const double experts = static_cast<double>(model.n_routed_experts + model.n_shared_experts);
  const double mlp = 3 * hidden *
                     std::max(static_cast<double>(model.intermediate_size),
                              experts * static_cast<double>(model.moe_intermediate_size));
  const double blocks = static_cast<double>(model.num_hidden_layers + model.num_nextn_predict_layers);
  const double total =
      2 * hidden * static_cast<double>(model.vocab_size) + blocks * (attention + mlp + 2 * hidden * hidden);
  if (total <= kMaxParameters) return absl::OkStatus();
  return Refuse("model.hidden_size", model.hidden_size,
                absl::StrFormat("and the other sizes make about %.1e parameters; at most "
                                "%.1e are possible",
                                total, kMaxParameters));
}

}  // namespace

bool ModelConfig::IsMoe(int64_t layer) const {
  if (n_routed_experts == 0) return false;
  if (model_type == "deepseek_v3") return layer >= std::min(first_k_dense_replace, num_hidden_layers);
  const bool listed = std::find(mlp_only_layers.begin(), mlp_only_layers.end(), layer) != mlp_only_layers.end();
  return model_type == "qwen3_moe" && !listed && (layer + 1) % decoder_sparse_step == 0;
}

absl::Status Validate(const ModelConfig& model) {
  RETURN_IF_ERROR(
      IsOneOf("model.model_type", model.model_type, {"deepseek_v3", "qwen2", "qwen3", "qwen3_moe", "llama"}));
  RETURN_IF_ERROR(ValidateMeaning(model));
  RETURN_IF_ERROR(ValidateSizes(model));
  RETURN_IF_ERROR(ValidateHeads(model));
  RETURN_IF_ERROR(ValidateRope(model));
  RETURN_IF_ERROR(ValidateExperts(model));
  return ValidateParameters(model);
}

absl::Status ValidateForBf16(const ModelConfig& model) {
  const std::pair<const char*, int64_t> widths[] = {
      {"model.hidden_size", model.hidden_size},
      {"model.intermediate_size", model.intermediate_size},
      {"model.moe_intermediate_size", model.moe_intermediate_size},
      {"model.q_lora_rank", model.q_lora_rank},
      {"model.kv_lora_rank", model.HasMla() ? model.kv_lora_rank : 0},
      {"model.qk_nope_head_dim", model.HasMla() ? model.qk_nope_head_dim : 0},
      {"model.v_head_dim", model.HasMla() ? model.v_head_dim : 0},
  };
  for (const auto& [key, width] : widths) {
    if (width % 2 != 0) return Refuse(key, width, "is odd; precision bf16 reads pairs along every width: make it even");
  }
  return absl::OkStatus();
}

}  // namespace conclave::core
