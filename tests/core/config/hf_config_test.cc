// SPDX-License-Identifier: Apache-2.0
// config.json as found on the Hub: read, refused by name and value, written back.
#include "core/config/hf_config.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace conclave::core {
namespace {

using nlohmann::json;

// The published config.json of DeepSeek-V3, extra keys included.
json DeepseekV3() {
  return json::parse(R"({"architectures": ["DeepseekV3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"}, "aux_loss_alpha": 0.001, "bos_token_id": 0,
    "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 3, "hidden_act": "silu", "hidden_size": 7168,
    "initializer_range": 0.02, "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840,
    "model_type": "deepseek_v3", "moe_intermediate_size": 2048, "moe_layer_freq": 1, "n_group": 8,
    "n_routed_experts": 256, "n_shared_experts": 1, "norm_topk_prob": true, "num_attention_heads": 128,
    "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1,
    "pretraining_tp": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "scale_fmt": "ue8m0",
                            "weight_block_size": [128, 128]},
    "rms_norm_eps": 1e-06, "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0,
    "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096, "type": "yarn"}, "rope_theta": 10000,
    "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "seq_aux": true, "tie_word_embeddings": false,
    "topk_group": 4, "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "transformers_version": "4.46.3",
    "use_cache": true, "v_head_dim": 128, "vocab_size": 129280})");
}

// Only what a family cannot do without.
json Minimal(const std::string& model_type) {
  json object = {{"model_type", model_type}, {"vocab_size", 320},      {"hidden_size", 64},
                 {"intermediate_size", 96},  {"num_hidden_layers", 2}, {"num_attention_heads", 32}};
  if (model_type == "deepseek_v3") {
    object.update({{"kv_lora_rank", 32},
                   {"qk_nope_head_dim", 16},
                   {"qk_rope_head_dim", 8},
                   {"v_head_dim", 16},
                   {"n_routed_experts", 16},
                   {"num_experts_per_tok", 4},
                   {"moe_intermediate_size", 24},
                   {"first_k_dense_replace", 1}});
  }
  if (model_type == "qwen3_moe") {
    object.update({{"num_experts", 8}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 24}});
  }
  return object;
}

ModelConfig MustParse(const json& object) {
  const absl::StatusOr<ModelConfig> model = ParseHfConfig(object.dump(), "config.json");
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *model : ModelConfig();
}

std::string Error(const json& object) {
  const absl::StatusOr<ModelConfig> model = ParseHfConfig(object.dump(), "config.json");
  return model.ok() ? "ok" : std::string(model.status().message());
}

std::string TextError(const std::string& text) {
  return std::string(ParseHfConfig(text, "config.json").status().message());
}

TEST(HfConfig, ReadsThePublishedDeepseekV3) {
  const ModelConfig model = MustParse(DeepseekV3());
  EXPECT_EQ(model.num_hidden_layers, 61);
  EXPECT_EQ(model.n_routed_experts, 256);
  EXPECT_EQ(model.q_lora_rank, 1536);
  EXPECT_EQ(model.rope_scaling.type, "yarn");
  EXPECT_EQ(model.rope_scaling.factor, 40);
  EXPECT_EQ(model.rope_scaling.mscale_all_dim, 1);
  EXPECT_EQ(model.num_nextn_predict_layers, 1);
  EXPECT_EQ(model.HeadDim(), 192);
  EXPECT_FALSE(model.IsMoe(2));
  EXPECT_TRUE(model.IsMoe(3));
}

TEST(HfConfig, AbsentKeysHaveTheDefaultsOfTransformers) {
  const ModelConfig deepseek = MustParse(Minimal("deepseek_v3"));
  EXPECT_EQ(deepseek.q_lora_rank, 1536);
  EXPECT_EQ(deepseek.n_group, 8);
  EXPECT_EQ(deepseek.topk_group, 4);
  EXPECT_EQ(deepseek.n_shared_experts, 1);
  EXPECT_EQ(deepseek.routed_scaling_factor, 2.5);
  EXPECT_EQ(deepseek.rope_theta, 10000);
  EXPECT_TRUE(deepseek.norm_topk_prob && deepseek.rope_interleave);
  EXPECT_EQ(deepseek.bos_token_id, 0);
  EXPECT_EQ(deepseek.eos_token_id, 1);
  EXPECT_EQ(deepseek.num_nextn_predict_layers, 0);
  EXPECT_EQ(deepseek.max_position_embeddings, 4096);
  const ModelConfig qwen2 = MustParse(Minimal("qwen2"));
  EXPECT_EQ(qwen2.KeyValueHeads(), 32);
  EXPECT_EQ(qwen2.HeadDim(), 2);
  EXPECT_EQ(qwen2.bos_token_id, -1);
  EXPECT_FALSE(qwen2.tie_word_embeddings);
  EXPECT_EQ(qwen2.max_position_embeddings, 32768);
  EXPECT_EQ(MustParse(Minimal("qwen3")).HeadDim(), 128);
  const ModelConfig moe = MustParse(Minimal("qwen3_moe"));
  EXPECT_FALSE(moe.norm_topk_prob);
  EXPECT_EQ(moe.decoder_sparse_step, 1);
  EXPECT_EQ(moe.KeyValueHeads(), 4);
  EXPECT_EQ(moe.n_routed_experts, 8);
  const ModelConfig llama = MustParse(Minimal("llama"));
  EXPECT_EQ(llama.KeyValueHeads(), 32);
  EXPECT_EQ(llama.eos_token_id, 2);
  EXPECT_EQ(llama.max_position_embeddings, 2048);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6);
}

TEST(HfConfig, NamesMissingKeys) {
  for (const char* family : {"deepseek_v3", "qwen2", "qwen3", "qwen3_moe", "llama"}) {
    const json whole = Minimal(family);
    for (const auto& [key, value] : whole.items()) {
      json object = whole;
      object.erase(key);
      const std::string expected = key == "first_k_dense_replace"
                                       ? "config.json: first_k_dense_replace: 3 is outside 0 .. 2"
                                       : "config.json: " + key + ": is missing";
      EXPECT_EQ(Error(object), expected) << family;
    }
  }
}

TEST(HfConfig, NullsMeanAbsentOrNone) {
  json object = Minimal("deepseek_v3");
  object.update({{"q_lora_rank", nullptr},
                 {"n_shared_experts", nullptr},
                 {"bos_token_id", nullptr},
                 {"eos_token_id", {7, 8}},
                 {"rope_scaling", nullptr},
                 {"quantization_config", nullptr}});
  const ModelConfig model = MustParse(object);
  EXPECT_EQ(model.q_lora_rank, 0);
  EXPECT_EQ(model.n_shared_experts, 0);
  EXPECT_EQ(model.bos_token_id, -1);
  EXPECT_EQ(model.eos_token_id, 7);
  object["n_routed_experts"] = nullptr;
  EXPECT_EQ(MustParse(object).n_routed_experts, 0);
  json llama = Minimal("llama");
  llama.update({{"head_dim", nullptr}, {"num_key_value_heads", nullptr}});
  EXPECT_EQ(MustParse(llama).HeadDim(), 2);
}

TEST(HfConfig, AcceptsTheNewerFormsOfKeys) {
  json object = Minimal("llama");
  object["rope_parameters"] = {{"rope_theta", 5e5},     {"rope_type", "llama3"},
                               {"factor", 8},           {"low_freq_factor", 1},
                               {"high_freq_factor", 4}, {"original_max_position_embeddings", 64}};
  ModelConfig model = MustParse(object);
  EXPECT_EQ(model.rope_theta, 5e5);
  EXPECT_EQ(model.rope_scaling.type, "llama3");
  object["rope_parameters"] = {{"rope_theta", 5e5}, {"rope_type", "default"}};
  model = MustParse(object);
  EXPECT_EQ(model.rope_theta, 5e5);
  EXPECT_EQ(model.rope_scaling.type, "");
  json moe = Minimal("qwen3_moe");
  moe.erase("num_experts");
  moe["num_local_experts"] = 6;
  EXPECT_EQ(MustParse(moe).n_routed_experts, 6);
  moe["num_experts"] = 8;
  EXPECT_EQ(Error(moe), "config.json: num_local_experts: 6 differs from num_experts, 8");
  json mtp = Minimal("deepseek_v3");
  mtp["num_mtp_layers"] = 2;
  EXPECT_EQ(MustParse(mtp).num_nextn_predict_layers, 2);
}

TEST(HfConfig, RefusesByKeyAndValueWhatIsNotComputed) {
  const struct {
    const char *family, *key, *value, *message;
  } cases[] = {
      {"llama", "model_type", "\"gpt2\"",
       "model_type: \"gpt2\" is not supported: known are deepseek_v3, qwen2, qwen3, qwen3_moe and llama"},
      {"llama", "model_type", "\"deepseek_v4\"", "model_type: \"deepseek_v4\" is not supported"},
      {"llama", "hidden_act", "\"gelu\"", "hidden_act: \"gelu\" is not supported: MLPs use silu"},
      {"llama", "attention_bias", "true", "attention_bias: true is not supported: projections have no biases"},
      {"qwen3", "attention_bias", "true", "attention_bias: true is not supported"},
      {"deepseek_v3", "attention_bias", "true", "attention_bias: true is not supported"},
      {"qwen2", "attention_bias", "true", "ok"},
      {"llama", "mlp_bias", "true", "mlp_bias: true is not supported"},
      {"qwen2", "use_sliding_window", "true", "use_sliding_window: true is not supported: attention is always full"},
      {"qwen2", "sliding_window", "4096", "ok"},
      {"qwen3", "layer_types", "[\"full_attention\", \"sliding_attention\"]",
       "layer_types: \"sliding_attention\" is not supported"},
      {"qwen3", "layer_types", "[\"full_attention\", \"full_attention\"]", "ok"},
      {"deepseek_v3", "scoring_func", "\"softmax\"",
       "scoring_func: \"softmax\" is not supported: the router of deepseek_v3 uses sig"},
      {"deepseek_v3", "topk_method", "\"greedy\"", "topk_method: \"greedy\" is not supported"},
      {"deepseek_v3", "moe_layer_freq", "2", "moe_layer_freq: 2 is not supported"},
      {"llama", "attention_dropout", "0.1", "attention_dropout: 0.1 is not supported"},
      {"llama", "attention_dropout", "0", "ok"},
      {"llama", "partial_rotary_factor", "0.5", "partial_rotary_factor: 0.5 is not supported"},
      {"llama", "pretraining_tp", "4", "ok"},
      {"llama", "rope_scaling", "{\"type\": \"linear\", \"factor\": 2}",
       "rope_scaling.type: \"linear\" is not supported: model_type llama knows llama3"},
      {"llama", "rope_scaling", "{\"rope_type\": \"dynamic\", \"factor\": 2}",
       "rope_scaling.rope_type: \"dynamic\" is not supported"},
      {"llama", "rope_scaling", "{\"rope_type\": \"default\"}", "ok"},
      {"llama", "rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 2}",
       "rope_scaling.original_max_position_embeddings: is missing"},
      {"llama", "rope_scaling", "[1]", "rope_scaling: [1] is not an object"},
      {"qwen2", "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4}",
       "rope_scaling.type: \"yarn\" is not supported: model_type qwen2 knows none"},
      {"qwen2", "rope_parameters", "{\"rope_type\": \"longrope\"}",
       "rope_parameters.rope_type: \"longrope\" is not supported"},
      {"qwen2", "rope_parameters", "{\"partial_rotary_factor\": 0.25}",
       "rope_parameters.partial_rotary_factor: 0.25 is not"},
      {"qwen2", "quantization_config", "{\"quant_method\": \"gptq\"}",
       "quantization_config.quant_method: \"gptq\" is not supported"},
      {"qwen2", "quantization_config", "{\"quant_method\": \"fp8\"}",
       "quantization_config.weight_block_size: is missing"},
      {"qwen2", "quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [64, 64]}",
       "quantization_config.weight_block_size: [64,64] is not"},
      {"qwen2", "quantization_config",
       "{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\", \"weight_block_size\": [128, 128]}",
       "quantization_config.fmt: \"e5m2\" is not"},
      {"qwen2", "quantization_config", "{\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}", "ok"},
      {"qwen2", "quantization_config", "8", "quantization_config: 8 is not an object"},
      {"llama", "hidden_size", "\"64\"", "hidden_size: \"64\" is not a whole number"},
      {"llama", "hidden_size", "64.5", "hidden_size: 64.5 is not a whole number"},
      {"llama", "hidden_size", "18446744073709551615", "hidden_size: 18446744073709551615 is not a whole number"},
      {"llama", "hidden_size", "-64", "hidden_size: -64 is outside 1 .. 1048576"},
      {"llama", "num_hidden_layers", "1000000", "num_hidden_layers: 1000000 is outside"},
      {"llama", "vocab_size", "0", "vocab_size: must be at least 1"},
      {"llama", "rms_norm_eps", "\"x\"", "rms_norm_eps: \"x\" is not a number"},
      {"llama", "tie_word_embeddings", "1", "tie_word_embeddings: 1 is neither true nor false"},
      {"llama", "eos_token_id", "[]", "eos_token_id: [] holds no id"},
      {"llama", "eos_token_id", "320", "eos_token_id: 320 is outside -1 .. 319"},
      {"llama", "num_key_value_heads", "5", "num_key_value_heads: 5 does not divide num_attention_heads, 32"},
      {"qwen3_moe", "mlp_only_layers", "3", "mlp_only_layers: 3 is not a list"},
  };
  for (const auto& [family, key, value, message] : cases) {
    json object = Minimal(family);
    object[key] = json::parse(value);
    const std::string expected = message == std::string("ok") ? "ok" : std::string("config.json: ") + message;
    EXPECT_EQ(Error(object).substr(0, expected.size()), expected) << key << " " << value;
  }
}

TEST(HfConfig, YarnMustMeanTheSameToAllReaders) {
  json object = DeepseekV3();
  json& yarn = object["rope_scaling"];
  yarn["attention_factor"] = 1.0;
  EXPECT_EQ(Error(object), "ok");
  yarn["attention_factor"] = 1.3689;
  EXPECT_EQ(Error(object),
            "config.json: rope_scaling.attention_factor: 1.3689 is not supported: mscale and mscale_all_dim give 1");
  yarn.erase("attention_factor");
  yarn["truncate"] = false;
  EXPECT_EQ(Error(object).substr(0, 57), "config.json: rope_scaling.truncate: false is not supporte");
  yarn.erase("truncate");
  yarn.erase("mscale");
  EXPECT_EQ(Error(object), "config.json: rope_scaling.mscale: is missing beside mscale_all_dim");
  yarn.erase("mscale_all_dim");
  EXPECT_EQ(Error(object), "ok");
  yarn["attention_factor"] = 1.3688879454113936;  // 0.1 ln 40 + 1
  EXPECT_EQ(Error(object), "ok");
  yarn.erase("factor");
  EXPECT_EQ(Error(object), "config.json: rope_scaling.factor: is missing");
}

TEST(HfConfig, SurvivesBrokenAndHostileJson) {
  EXPECT_EQ(TextError("").substr(0, 12), "config.json:");
  EXPECT_EQ(TextError("[]"), "config.json: not an object of keys and values");
  EXPECT_EQ(TextError("{\"a\": 1,\n \"b\": ?}").substr(0, 32), "config.json:2:7: not valid JSON:");
  EXPECT_EQ(TextError("{\"a\": 1, \"a\": 2}"), "config.json:1:10: duplicate key 'a'");
  EXPECT_EQ(TextError("{\"x\": {\"a\": 1, \"b\": {\"a\": 1}, \"a\": 2}}"), "config.json:1:31: duplicate key 'a'");
  EXPECT_EQ(TextError("{\"x\": [{\"a\": 1}, {\"a\": 1}]}"), "config.json: model_type: is missing");
  EXPECT_EQ(TextError(std::string(1 << 20, '[')), "config.json:1:65: nested deeper than 64 levels");
  EXPECT_EQ(TextError("{\"a\": " + std::string(64, '[') + std::string(64, ']') + "}"),
            "config.json:1:70: nested deeper than 64 levels");
  EXPECT_EQ(TextError("{\"a\": " + std::string(63, '[') + std::string(63, ']') + "}"),
            "config.json: model_type: is missing");
  EXPECT_EQ(TextError("{\"a\": 1e999}").substr(0, 12), "config.json:");
  EXPECT_EQ(TextError("{\"a\": \"\xff\"}").substr(0, 12), "config.json:");
  EXPECT_EQ(TextError("{\"a\": 1} x").substr(0, 12), "config.json:");
  EXPECT_EQ(TextError("{\"model_type\": 3}"), "config.json: model_type: 3 is not text");
  EXPECT_EQ(TextError(std::string((16 << 20) + 1, ' ')), "config.json: 16777217 bytes; at most 16777216 are read");
  // Every prefix of a real file is an error, never a crash.
  const std::string whole = DeepseekV3().dump();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(ParseHfConfig(whole.substr(0, length), "config.json").ok()) << length;
  }
}

TEST(HfConfig, WritesWhatItReads) {
  std::vector<json> objects = {DeepseekV3()};
  for (const char* family : {"deepseek_v3", "qwen2", "qwen3", "qwen3_moe", "llama"}) objects.push_back(Minimal(family));
  objects.push_back(Minimal("deepseek_v3"));
  objects.back().update(
      {{"n_routed_experts", 0}, {"q_lora_rank", nullptr}, {"rope_interleave", false}, {"bos_token_id", nullptr}});
  objects.push_back(Minimal("llama"));
  objects.back().update({{"head_dim", 4}, {"tie_word_embeddings", true}, {"initializer_range", 0.1 + 0.2}});
  objects.back()["rope_scaling"] = {{"type", "llama3"},
                                    {"factor", 8},
                                    {"low_freq_factor", 1.5},
                                    {"high_freq_factor", 4},
                                    {"original_max_position_embeddings", 64}};
  objects.push_back(Minimal("qwen3_moe"));
  objects.back().update({{"mlp_only_layers", {1}}, {"decoder_sparse_step", 2}, {"norm_topk_prob", true}});
  for (const json& object : objects) {
    const ModelConfig model = MustParse(object);
    const std::string text = WriteHfConfig(model, "bfloat16");
    const absl::StatusOr<ModelConfig> again = ParseHfConfig(text, "again.json");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(model == *again) << text;
    EXPECT_EQ(WriteHfConfig(*again, "bfloat16"), text);
    EXPECT_EQ(json::parse(text)["torch_dtype"], "bfloat16");
  }
}

TEST(HfConfig, WritesDerivedSizesAndNamesOfTheHub) {
  ModelConfig dense;
  dense.vocab_size = 100;
  const json object = json::parse(WriteHfConfig(dense, "float32"));
  EXPECT_EQ(object["architectures"], json::array({"DeepseekV3ForCausalLM"}));
  EXPECT_EQ(object["num_key_value_heads"], 4);
  EXPECT_EQ(object["first_k_dense_replace"], 4);  // no block routes
  EXPECT_TRUE(object["q_lora_rank"].is_null() && object["rope_scaling"].is_null() && object["bos_token_id"].is_null());
  EXPECT_EQ(object["topk_method"], "noaux_tc");
  ModelConfig qwen;
  qwen.model_type = "qwen3";
  EXPECT_EQ(json::parse(WriteHfConfig(qwen, "float32"))["head_dim"], 64);
}

TEST(HfConfig, ReadsTheSharedFixtures) {
  const std::filesystem::path fixtures = CONCLAVE_SOURCE_DIR "/../shared/fixtures";
  if (!std::filesystem::exists(fixtures)) GTEST_SKIP() << "no shared fixtures at " << fixtures;
  int num_read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fixtures)) {
    const std::filesystem::path path = entry.path() / "config.json";
    if (!std::filesystem::exists(path)) continue;
    std::ifstream file(path);
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const absl::StatusOr<ModelConfig> model = ParseHfConfig(text, path.string());
    ASSERT_TRUE(model.ok()) << model.status();
    const absl::StatusOr<ModelConfig> again = ParseHfConfig(WriteHfConfig(*model, "float32"), "again.json");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*model == *again) << path;
    ++num_read;
  }
  EXPECT_GE(num_read, 9);
}

}  // namespace
}  // namespace conclave::core
