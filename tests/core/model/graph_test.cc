// SPDX-License-Identifier: Apache-2.0
// What the graph says a model costs, against what its modules declare and run.
#include "gtest/gtest.h"

#include "core/model/memory_plan.h"
#include "core/model/model_graph.h"
#include "core/model/stage.h"

namespace conclave::core {
namespace {

ModelConfig Family(const std::string& type) {
  ModelConfig config;
  config.model_type = type;
  config.vocab_size = 320;
  config.hidden_size = 64;
  config.intermediate_size = 144;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = type == "deepseek_v3" ? 0 : 2;
  config.tie_word_embeddings = type == "qwen2";
  if (type == "deepseek_v3" || type == "qwen3_moe") {
    config.n_routed_experts = 8;
    config.num_experts_per_tok = 2;
    config.moe_intermediate_size = 48;
  }
  if (type == "deepseek_v3") {
    config.first_k_dense_replace = 1;
    config.n_shared_experts = 2;
    config.q_lora_rank = 40;
    config.num_nextn_predict_layers = 1;
  }
  return config;
}

class GraphOfFamily : public ::testing::TestWithParam<std::string> {};

TEST_P(GraphOfFamily, CountsTheParametersThatModulesDeclare) {
  const ModelConfig config = Family(GetParam());
  ParamSet params;
  Stage stage(config, params, DType::kF32);
  EXPECT_EQ(MakeModelGraph(config, 128).params(), params.Elements());
}

TEST_P(GraphOfFamily, CountsTheFlopsThatKernelsRun) {
  const ModelConfig config = Family(GetParam());
  ParamSet params;
  Stage stage(config, params, DType::kF32);
  auto device = CreateDevice({.name = "cpu", .num_threads = 1});
  ASSERT_TRUE(device.ok());
  auto stream = (*device)->CreateStream();
  auto kernels = (*device)->CreateKernels(*stream);
  const ModelGraph graph = MakeModelGraph(config, 128);
  const PassMemory train = PlanPass(stage, **device, *stream, *kernels, {PassMode::kTrain, 3, 128});
  EXPECT_DOUBLE_EQ(train.flops, 3 * 128 * graph.TrainFlopsPerToken());
  const PassMemory forward = PlanPass(stage, **device, *stream, *kernels, {PassMode::kForwardOnly, 3, 128});
  EXPECT_DOUBLE_EQ(forward.flops, 3 * 128 * graph.ForwardFlopsPerToken());
  EXPECT_LT(forward.Total(), train.Total());
}

TEST_P(GraphOfFamily, ImmediateWeightGradientsNeedLessMemory) {
  const ModelConfig config = Family(GetParam());
  ParamSet params;
  Stage stage(config, params, DType::kF32);
  auto device = CreateDevice({.name = "cpu", .num_threads = 1});
  ASSERT_TRUE(device.ok());
  auto stream = (*device)->CreateStream();
  auto kernels = (*device)->CreateKernels(*stream);
  EXPECT_LT(PlanPass(stage, **device, *stream, *kernels, {PassMode::kTrainImmediate, 3, 128}).until_weight_grad,
            PlanPass(stage, **device, *stream, *kernels, {PassMode::kTrain, 3, 128}).until_weight_grad);
}

INSTANTIATE_TEST_SUITE_P(Families, GraphOfFamily, ::testing::Values("deepseek_v3", "qwen2", "qwen3", "qwen3_moe", "llama"));

// DeepSeek-V3 report, table of parameters: 671.0 B in the main model, 11.6 B of its own in multi-token prediction.
TEST(ModelGraph, CountsDeepSeekV3) {
  ModelConfig config;
  config.vocab_size = 129280;
  config.hidden_size = 7168;
  config.intermediate_size = 18432;
  config.num_hidden_layers = 61;
  config.num_attention_heads = 128;
  config.q_lora_rank = 1536;
  config.kv_lora_rank = 512;
  config.qk_nope_head_dim = 128;
  config.qk_rope_head_dim = 64;
  config.v_head_dim = 128;
  config.n_routed_experts = 256;
  config.n_shared_experts = 1;
  config.num_experts_per_tok = 8;
  config.moe_intermediate_size = 2048;
  config.first_k_dense_replace = 3;
  EXPECT_EQ(MakeModelGraph(config, 4096).params(), 671026404352);
  EXPECT_EQ(MakeModelGraph(config, 4096).active_params(), 37552282624);
  EXPECT_NEAR(MakeModelGraph(config, 4096).TrainFlopsPerToken(), 250.4e9, 0.3e9);
  config.num_nextn_predict_layers = 1;
  EXPECT_NEAR(MakeModelGraph(config, 4096).TrainFlopsPerToken(), 260.6e9, 0.5e9);
}

}  // namespace
}  // namespace conclave::core
