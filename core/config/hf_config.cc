// SPDX-License-Identifier: Apache-2.0
// One function per subject: sizes, experts, rotation, and the refusals. Where a key is absent, the default is the one
// of transformers' class of the family, not ours; sizes have no default and must be there.
#include "core/config/hf_config.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "core/base/exact_math.h"
#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "core/config/hf_json.h"

namespace conclave::core {
namespace {

using nlohmann::json;

// What transformers assumes for keys that a config.json leaves out.
ModelConfig FamilyDefaults(const std::string& model_type) {
  ModelConfig model;
  model.model_type = model_type;
  model.max_position_embeddings = 32768;
  if (model_type == "deepseek_v3") {
    model.max_position_embeddings = 4096;
    model.bos_token_id = 0, model.eos_token_id = 1;
    model.q_lora_rank = 1536;
    model.n_shared_experts = 1, model.first_k_dense_replace = 3;
    model.n_group = 8, model.topk_group = 4, model.routed_scaling_factor = 2.5;
  } else if (model_type == "llama") {
    model.max_position_embeddings = 2048;
    model.bos_token_id = 1, model.eos_token_id = 2;
  } else if (model_type == "qwen3_moe") {
    model.num_key_value_heads = 4;
    model.norm_topk_prob = false;
  } else {
    model.num_key_value_heads = 32;
    if (model_type == "qwen3") model.head_dim = 128;
  }
  return model;
}

// What we do not compute, by key and value. Absent keys and nulls mean the ordinary case in all families.
void RefuseUnsupported(JsonFields& fields, const ModelConfig& model) {
  fields.Only("hidden_act", {"silu"}, "MLPs use silu");
  fields.Only("mlp_bias", {false}, "MLPs have no biases");
  fields.Only("use_sliding_window", {false}, "attention is always full");
  fields.Only("attention_dropout", {0, 0.0}, "there is no dropout");
  fields.Only("partial_rotary_factor", {1, 1.0}, "all of a head's width is rotated");
  // The class of Qwen2 always has biases on q, k and v, and knows no such key.
  if (!model.HasQkvBias()) fields.Only("attention_bias", {false}, "projections have no biases");
  if (model.HasMla()) {
    fields.Only("scoring_func", {"sigmoid"}, "the router of deepseek_v3 uses sigmoid");
    fields.Only("topk_method", {"noaux_tc"}, "experts are chosen by score plus bias (noaux_tc)");
    fields.Only("moe_layer_freq", {1}, "every block after the dense ones routes");
  }
  const json* layer_types = fields.Find("layer_types");
  if (layer_types == nullptr) return;
  for (const json& type : *layer_types) {
    if (type != "full_attention") {
      fields.Fail("layer_types", JsonText(type) + " is not supported: attention is always full");
    }
  }
}

// Weights may be stored as FP8 in blocks of 128 x 128; everything else is refused.
void RefuseQuantization(JsonFields& fields) {
  const json* found = fields.Find("quantization_config");
  if (found == nullptr) return;
  if (!found->is_object()) return fields.Fail("quantization_config", JsonText(*found) + " is not an object");
  JsonFields quantization(*found, fields.name(), "quantization_config.");
  quantization.Only("quant_method", {"fp8"}, "weights are f32, bf16 or fp8");
  quantization.Only("fmt", {"e4m3"}, "fp8 weights are e4m3");
  quantization.Only("weight_block_size", {json::array({128, 128})}, "fp8 weights have a scale per 128 x 128");
  for (const char* key : {"quant_method", "weight_block_size"}) {
    if (!quantization.Has(key)) quantization.Fail(key, "is missing");
  }
  fields.Adopt(quantization);
}

void ReadSizes(JsonFields& fields, ModelConfig& model) {
  fields.Required("vocab_size", model.vocab_size);
  fields.Required("hidden_size", model.hidden_size);
  fields.Required("intermediate_size", model.intermediate_size);
  fields.Required("num_hidden_layers", model.num_hidden_layers);
  fields.Required("num_attention_heads", model.num_attention_heads);
  if (fields.IsNull("num_key_value_heads")) model.num_key_value_heads = 0;
  fields.Optional("num_key_value_heads", model.num_key_value_heads);
  if (model.num_key_value_heads == 0) model.num_key_value_heads = model.num_attention_heads;
  fields.Optional("max_position_embeddings", model.max_position_embeddings);
  fields.Optional("rms_norm_eps", model.rms_norm_eps);
  fields.Optional("tie_word_embeddings", model.tie_word_embeddings);
  fields.Optional("initializer_range", model.initializer_range);
  if (!model.HasMla()) {  // MLA: some programs write the rotary width as head_dim
    fields.Optional("head_dim", model.head_dim);
    return;
  }
  if (fields.IsNull("q_lora_rank")) model.q_lora_rank = 0;
  fields.Optional("q_lora_rank", model.q_lora_rank);
  fields.Required("kv_lora_rank", model.kv_lora_rank);
  fields.Required("qk_nope_head_dim", model.qk_nope_head_dim);
  fields.Required("qk_rope_head_dim", model.qk_rope_head_dim);
  fields.Required("v_head_dim", model.v_head_dim);
}

// One id, or a list of ids of which the first counts; null = none.
void ReadTokenId(JsonFields& fields, const char* key, int64_t& id) {
  if (fields.IsNull(key)) id = -1;
  const json* found = fields.Find(key);
  if (found == nullptr || !found->is_array()) return fields.Optional(key, id);
  std::vector<int64_t> ids;
  fields.Optional(key, ids);
  if (ids.empty()) fields.Fail(key, JsonText(*found) + " holds no id");
  if (fields.status().ok()) id = ids.front();
}

// Reads the number that stands under several names; they must agree.
void ReadAliases(JsonFields& fields, std::initializer_list<const char*> keys, int64_t& value) {
  const char* first = nullptr;
  for (const char* key : keys) {
    if (!fields.Has(key)) continue;
    int64_t found = 0;
    fields.Optional(key, found);
    if (first != nullptr && found != value) {
      fields.Fail(key, absl::StrFormat("%d differs from %s, %d", found, first, value));
    }
    value = found;
    first = key;
  }
}

void ReadExperts(JsonFields& fields, ModelConfig& model) {
  if (!model.HasMla() && !model.SoftmaxRouter()) return;
  const char* const name = model.HasMla() ? "n_routed_experts" : "num_experts";
  if (!fields.Has("n_routed_experts") && !fields.Has("num_experts") && !fields.Has("num_local_experts") &&
      !fields.IsNull(name)) {
    return fields.Fail(name, "is missing");
  }
  ReadAliases(fields, {"n_routed_experts", "num_experts", "num_local_experts"}, model.n_routed_experts);
  if (model.HasMla())
    ReadAliases(fields, {"num_nextn_predict_layers", "num_mtp_layers"}, model.num_nextn_predict_layers);
  if (model.n_routed_experts == 0) {
    // The other keys then say nothing; ours stay at their defaults.
    const ModelConfig plain;
    model.n_shared_experts = plain.n_shared_experts, model.first_k_dense_replace = plain.first_k_dense_replace;
    model.n_group = plain.n_group, model.topk_group = plain.topk_group;
    model.routed_scaling_factor = plain.routed_scaling_factor, model.norm_topk_prob = plain.norm_topk_prob;
    return;
  }
  fields.Required("num_experts_per_tok", model.num_experts_per_tok);
  fields.Required("moe_intermediate_size", model.moe_intermediate_size);
  fields.Optional("norm_topk_prob", model.norm_topk_prob);
  if (model.SoftmaxRouter()) {
    fields.Optional("decoder_sparse_step", model.decoder_sparse_step);
    fields.Optional("mlp_only_layers", model.mlp_only_layers);
    return;
  }
  if (fields.IsNull("n_shared_experts")) model.n_shared_experts = 0;
  fields.Optional("n_shared_experts", model.n_shared_experts);
  fields.Optional("first_k_dense_replace", model.first_k_dense_replace);
  fields.Optional("n_group", model.n_group);
  fields.Optional("topk_group", model.topk_group);
  fields.Optional("routed_scaling_factor", model.routed_scaling_factor);
}

// transformers' factor on cosine and sine tables, when yarn does not state one.
double YarnAttentionFactor(const RopeScalingConfig& scaling) {
  const double log_factor = scaling.factor <= 1 ? 0 : ExactLog(scaling.factor);
  return (0.1 * scaling.mscale * log_factor + 1) / (0.1 * scaling.mscale_all_dim * log_factor + 1);
}

void ReadYarn(JsonFields& fields, RopeScalingConfig& scaling) {
  fields.Optional("beta_fast", scaling.beta_fast);
  fields.Optional("beta_slow", scaling.beta_slow);
  fields.Optional("mscale", scaling.mscale);
  fields.Optional("mscale_all_dim", scaling.mscale_all_dim);
  fields.Only("truncate", {true}, "the range of blended frequencies has whole ends");
  if (scaling.mscale_all_dim != 0 && !fields.Has("mscale")) fields.Fail("mscale", "is missing beside mscale_all_dim");
  double attention_factor = YarnAttentionFactor(scaling);
  const double expected = attention_factor;
  fields.Optional("attention_factor", attention_factor);
  if (std::abs(attention_factor - expected) <= 1e-6 * expected) return;
  fields.Fail("attention_factor", absl::StrFormat("%.9g is not supported: mscale and mscale_all_dim give %.9g",
                                                  attention_factor, expected));
}

// rope_theta and rope_scaling, or rope_parameters, which holds both.
void ReadRope(JsonFields& fields, ModelConfig& model) {
  fields.Optional("rope_theta", model.rope_theta);
  if (model.HasMla()) fields.Optional("rope_interleave", model.rope_interleave);
  const char* const key = fields.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const json* found = fields.Find(key);
  if (found == nullptr) return;
  if (!found->is_object()) return fields.Fail(key, JsonText(*found) + " is not an object");
  JsonFields rope(*found, fields.name(), std::string(key) + ".");
  rope.Optional("rope_theta", model.rope_theta);
  rope.Only("partial_rotary_factor", {1, 1.0}, "all of a head's width is rotated");
  std::string type = "default";
  const char* const type_key = rope.Has("rope_type") ? "rope_type" : "type";
  rope.Optional(type_key, type);
  const char* const supported = model.HasMla() ? "yarn" : model.model_type == "llama" ? "llama3" : "none";
  if (type != "default" && type != supported) {
    rope.Fail(type_key, absl::StrFormat("%s is not supported: model_type %s knows %s", JsonText(type), model.model_type,
                                        supported));
  } else if (type != "default") {
    RopeScalingConfig& scaling = model.rope_scaling;
    scaling.type = type;
    rope.Required("factor", scaling.factor);
    rope.Required("original_max_position_embeddings", scaling.original_max_position_embeddings);
    if (type == "yarn") {
      ReadYarn(rope, scaling);
    } else {
      rope.Required("low_freq_factor", scaling.low_freq_factor);
      rope.Required("high_freq_factor", scaling.high_freq_factor);
    }
  }
  fields.Adopt(rope);
}

// The rules of Validate speak of "model.KEY"; here the file's name stands in front.
absl::Status ValidateAs(const std::string& name, const ModelConfig& model) {
  const absl::Status status = Validate(model);
  if (status.ok()) return status;
  const std::string message(status.message());
  return absl::InvalidArgumentError(absl::StrFormat("%s: %s", name, absl::StrReplaceAll(message, {{"model.", ""}})));
}

// ---- Writing
// ------------------------------------------------------------------------------------------------------------

json TokenId(int64_t id) { return id < 0 ? json() : json(id); }

json RopeScaling(const RopeScalingConfig& scaling) {
  if (scaling.type.empty()) return json();
  json object = {{"type", scaling.type},
                 {"factor", scaling.factor},
                 {"original_max_position_embeddings", scaling.original_max_position_embeddings}};
  if (scaling.type == "llama3") {
    object["rope_type"] = scaling.type;  // as in Llama 3.1 on the Hub, next to the name that older readers know
    object["low_freq_factor"] = scaling.low_freq_factor;
    object["high_freq_factor"] = scaling.high_freq_factor;
  } else {
    object["beta_fast"] = scaling.beta_fast;
    object["beta_slow"] = scaling.beta_slow;
    object["mscale"] = scaling.mscale;
    object["mscale_all_dim"] = scaling.mscale_all_dim;
  }
  return object;
}

const char* Architecture(const std::string& model_type) {
  if (model_type == "deepseek_v3") return "DeepseekV3ForCausalLM";
  if (model_type == "qwen2") return "Qwen2ForCausalLM";
  if (model_type == "qwen3") return "Qwen3ForCausalLM";
  return model_type == "qwen3_moe" ? "Qwen3MoeForCausalLM" : "LlamaForCausalLM";
}

void WriteDeepseek(const ModelConfig& model, json& object) {
  const bool dense = model.n_routed_experts == 0;
  object.update({{"attention_bias", false},
                 {"first_k_dense_replace", dense ? model.num_hidden_layers : model.first_k_dense_replace},
                 {"kv_lora_rank", model.kv_lora_rank},
                 {"moe_intermediate_size", model.moe_intermediate_size},
                 {"moe_layer_freq", 1},
                 {"n_group", model.n_group},
                 {"n_routed_experts", model.n_routed_experts},
                 {"n_shared_experts", model.n_shared_experts},
                 {"norm_topk_prob", model.norm_topk_prob},
                 {"num_experts_per_tok", model.num_experts_per_tok},
                 {"num_nextn_predict_layers", model.num_nextn_predict_layers},
                 {"pretraining_tp", 1},
                 {"q_lora_rank", model.q_lora_rank == 0 ? json() : json(model.q_lora_rank)},
                 {"qk_nope_head_dim", model.qk_nope_head_dim},
                 {"qk_rope_head_dim", model.qk_rope_head_dim},
                 {"rope_interleave", model.rope_interleave},
                 {"routed_scaling_factor", model.routed_scaling_factor},
                 {"scoring_func", "sigmoid"},
                 {"topk_group", model.topk_group},
                 {"topk_method", "noaux_tc"},
                 {"v_head_dim", model.v_head_dim}});
}

void WriteOthers(const ModelConfig& model, json& object) {
  // Qwen3's class has a default of its own; in the others an absent width is the derived one.
  if (model.head_dim > 0 || model.model_type == "qwen3") object["head_dim"] = model.HeadDim();
  if (model.model_type == "llama") {
    object.update({{"attention_bias", false}, {"mlp_bias", false}, {"pretraining_tp", 1}});
    return;
  }
  object.update(
      {{"max_window_layers", model.num_hidden_layers}, {"sliding_window", json()}, {"use_sliding_window", false}});
  if (model.model_type != "qwen2") object["attention_bias"] = false;
  if (model.model_type != "qwen3_moe") return;
  object.update({{"decoder_sparse_step", model.decoder_sparse_step},
                 {"mlp_only_layers", model.mlp_only_layers},
                 {"moe_intermediate_size", model.moe_intermediate_size},
                 {"norm_topk_prob", model.norm_topk_prob},
                 {"num_experts", model.n_routed_experts},
                 {"num_experts_per_tok", model.num_experts_per_tok},
                 {"output_router_logits", false}});
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHfConfig(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(const json object, ParseJson(text, {.name = name}, {}));
  if (!object.is_object()) return absl::InvalidArgumentError(name + ": not an object of keys and values");
  JsonFields fields(object, name, "");
  std::string model_type;
  fields.Required("model_type", model_type);
  fields.Only("model_type", {"deepseek_v3", "qwen2", "qwen3", "qwen3_moe", "llama"},
              "known are deepseek_v3, qwen2, qwen3, qwen3_moe and llama");
  RETURN_IF_ERROR(fields.status());
  ModelConfig model = FamilyDefaults(model_type);
  RefuseUnsupported(fields, model);
  RefuseQuantization(fields);
  ReadSizes(fields, model);
  ReadTokenId(fields, "bos_token_id", model.bos_token_id);
  ReadTokenId(fields, "eos_token_id", model.eos_token_id);
  ReadExperts(fields, model);
  ReadRope(fields, model);
  RETURN_IF_ERROR(fields.status());
  if (model.vocab_size < 1) return absl::InvalidArgumentError(name + ": vocab_size: must be at least 1");
  RETURN_IF_ERROR(ValidateAs(name, model));
  return model;
}

std::string WriteHfConfig(const ModelConfig& model, std::string_view torch_dtype) {
  json object = {{"architectures", {Architecture(model.model_type)}},
                 {"attention_dropout", 0.0},
                 {"bos_token_id", TokenId(model.bos_token_id)},
                 {"eos_token_id", TokenId(model.eos_token_id)},
                 {"hidden_act", "silu"},
                 {"hidden_size", model.hidden_size},
                 {"initializer_range", model.initializer_range},
                 {"intermediate_size", model.intermediate_size},
                 {"max_position_embeddings", model.max_position_embeddings},
                 {"model_type", model.model_type},
                 {"num_attention_heads", model.num_attention_heads},
                 {"num_hidden_layers", model.num_hidden_layers},
                 {"num_key_value_heads", model.KeyValueHeads()},
                 {"rms_norm_eps", model.rms_norm_eps},
                 {"rope_scaling", RopeScaling(model.rope_scaling)},
                 {"rope_theta", model.rope_theta},
                 {"tie_word_embeddings", model.tie_word_embeddings},
                 {"torch_dtype", torch_dtype},
                 {"use_cache", true},
                 {"vocab_size", model.vocab_size}};
  if (model.HasMla()) {
    WriteDeepseek(model, object);
  } else {
    WriteOthers(model, object);
  }
  return object.dump(2) + "\n";
}

}  // namespace conclave::core
