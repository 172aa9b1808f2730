// SPDX-License-Identifier: Apache-2.0
// The rules of Validate, as tables of a broken value and the start of its message; and the shipped files.
#include "core/config/config.h"

#include <filesystem>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/config/recipe.h"
#include "core/config/yaml.h"

namespace conclave::core {
namespace {

struct Case {
  const char* override_text;
  const char* message;
};

// Message of the base file with overrides; without "override ...: " in front.
std::string Message(const std::string& base, const std::vector<std::string>& overrides) {
  const absl::StatusOr<Config> config = ParseConfig(base, "a.yaml", overrides);
  if (config.ok()) return "ok";
  const std::string message(config.status().message());
  const size_t start = message.find("\": ");
  return message.starts_with("override") ? message.substr(start + 3) : message.substr(message.find(": ") + 2);
}

void ExpectMessages(const std::string& base, const std::vector<Case>& cases) {
  ASSERT_EQ(Message(base, {}), "ok");
  for (const auto& [override_text, message] : cases) {
    const std::string found = Message(base, {override_text});
    EXPECT_EQ(found.substr(0, std::string_view(message).size()), message) << override_text << "\n" << found;
  }
}

constexpr char kRun[] = "data: {train: [{synthetic: uniform}]}\n";

constexpr char kGrpo[] = "stage: grpo\ntasks: {name: addition}\nrollout: {max_tokens: 24}\nreward: [{name: math}]\n";

TEST(Config, EachRuleOfReinforcementLearningNamesKeyValueAndReason) {
  ExpectMessages(
      kGrpo,
      {{"tasks={name: adition}", "tasks.0.name: adition is unknown; choose from addition, arithmetic"},
       {"tasks.digits=0", "tasks.0.digits: 0 is outside 1 .. 9"},
       {"tasks.held_out=0", "tasks.0.held_out: 0.0 must be above 0"},
       {"data.prompts=[{task: additon}]", "data.prompts.0.task: additon is none of `tasks`; did you mean addition?"},
       {"data.prompts=[{task: addition, split: test}]", "data.prompts.0.split: test is unknown"},
       {"reward=[]", "reward: nothing says what a response is worth"},
       {"reward.0.name=maths", "reward.0.name: maths is unknown; choose from math, exact"},
       {"reward.0.command=[a]", "reward.0.command: [a] has no effect without name: program"},
       {"reward.0.name=program", "reward.0.command: [] is empty; name: program needs the path of one"},
       {"rollout.group=1", "rollout.group: 1 is no group: with grpo.advantage.baseline group every advantage"},
       {"rollout={group: 1, max_tokens: 300}", "rollout.group: 1 is no group"},
       {"rollout.group=5000", "rollout.group: 5000 is outside 1 .. 4096"},
       {"rollout.temperature=0", "rollout.temperature: 0.0 is greedy"},
       {"rollout.top_p=0.9", "grpo.off_policy.correction: none does not go with rollout.top_p"},
       {"rollout.stop=[\"\"]", "rollout.stop.0: \"\" would end a response"},
       {"grpo.preset=ppo", "grpo.preset: ppo is unknown; choose from grpo, dapo"},
       {"grpo.minibatches=3", "grpo.minibatches: 3 does not divide rollout.prompts, 128"},
       {"grpo={router_replay: true, passes: 2}", "ok"},
       {"grpo.router_replay=true", "grpo.router_replay: true has no effect with grpo.minibatches 1 and grpo.passes 1"},
       {"batch.sequences=12", "batch.sequences: 12 does not go with stage grpo"},
       {"batch.ramp={start: 2, steps: 9}", "batch.ramp.start: 2 does not go with stage grpo"},
       {"batch.micro_sequences=3", "ok"},
       {"grpo.advantage.eps=0", "grpo.advantage.eps: 0.0 must be above 0"},
       {"grpo.clip.dual=null", "ok"},
       {"grpo.clip.dual=0.5", "grpo.clip.dual: 0.5 is outside 1.0"},
       {"data.sequence_length=100", "data.sequence_length: 100 has no room for a prompt of data.max_prompt_tokens"},
       {"rollout.max_tokens=4000", "rollout.max_tokens: 4000 and data.max_prompt_tokens are more than model.max_pos"}});
  ExpectMessages("stage: sft\ntasks: {name: addition}\nsft: {data: demos}\n",
                 {{"tasks=[]", "sft.data: demos needs `tasks`"},
                  {"sft.data=\"\"", "data.train: no source"},
                  {"sft.loss=x", "sft.loss: x is unknown; choose from answers, last, all"}});
}

TEST(Config, EachRuleOfRejectionNamesKeyValueAndReason) {
  constexpr char kTask[] = "tasks: {name: addition}\nreward: [{name: math}]\n";
  ExpectMessages(std::string("stage: reject\nmodel: {from: a}\n") + kTask,
                 {{"reject.prompts=0", "reject.prompts: 0 is outside 1 .."},
                  {"reject.samples=4097", "reject.samples: 4097 is outside 1 .. 4096"},
                  {"reject.keep=0", "reject.keep: 0 is outside 1 .."},
                  {"reject.keep=5", "reject.keep: 5 is more than the reject.samples, 4, that each prompt has"},
                  {"model.from=\"\"", "model.from: \"\" is empty; stage reject needs the folder of a model"},
                  {"tasks=[]", "data.prompts: no problems to solve"},
                  {"reward=[]", "reward: nothing says what a response is worth"},
                  {"rollout.temperature=0", "reject.samples: 4 of a prompt would be the same"},
                  {"rollout.top_p=0.9", "ok"},
                  {"rollout.ignore_eos=true", "rollout.ignore_eos: true leaves no response finished"},
                  {"data.sequence_length=1", "ok"}});
  ExpectMessages(std::string("stage: distill\nteacher: a\n") + kTask,
                 {{"teacher=\"\"", "teacher: \"\" is empty; stage distill needs the folder of a model"},
                  {"distill.keep=5", "distill.keep: 5 is more than the distill.samples, 4"},
                  {"reject.keep=5", "ok"},
                  {"sft.loss=x", "sft.loss: x is unknown"},
                  {"data.sequence_length=100", "data.sequence_length: 100 has no room for a prompt"},
                  {"distill.loss=kl", "distill.loss: kl is unknown; choose from samples, forward_kl, reverse_kl"},
                  {"distill.source=both", "distill.source: both is unknown; choose from teacher, student"},
                  {"distill.source=student", "distill.source: student needs a teacher that judges each token"},
                  {"distill.temperature=0", "distill.temperature: 0.0 must be above 0"},
                  {"distill.temperature=2", "distill.temperature: 2.0 has no effect with distill.loss: samples"},
                  {"rollout.temperature=0.7", "ok"}});
  ExpectMessages(std::string("stage: distill\nteacher: a\ndistill: {loss: forward_kl, temperature: 2}\n") + kTask,
                 {{"rollout.temperature=0.7", "ok"}, {"reward=[]", "reward: nothing says what a response is worth"}});
  ExpectMessages(std::string("stage: distill\nteacher: a\ndistill: {loss: reverse_kl, source: student}\n") + kTask,
                 {{"rollout.temperature=0.7", "ok"},
                  {"reward=[]", "ok"},
                  {"reward.0.name=x", "reward.0.name: x is unknown"},
                  {"tasks=[]", "data.prompts: no problems to solve"},
                  {"rollout.temperature=0", "rollout.temperature: 0.0 is greedy"},
                  {"distill.temperature=2", "distill.temperature: 2.0 is not rollout.temperature, 1"},
                  {"distill.prompts=8", "distill.prompts: 8 is of the teacher's samples"},
                  {"batch.sequences=4", "batch.sequences: 4 does not go with distill.source: student, whose batch is"},
                  {"data.sequence_length=100", "data.sequence_length: 100 has no room for a prompt"}});
}

TEST(Config, AStudentOnItsOwnSamplesTakesTheStepOfAPolicyWithoutRewards) {
  const auto config = ParseConfig(
      "stage: distill\nteacher: a\ntasks: {name: addition}\ngrpo: {minibatches: 3, kl: {coefficient: 1}}\n"
      "rollout: {temperature: 0.7}\ndistill: {loss: forward_kl, source: student}\n",
      "a.yaml", {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->distill.temperature, 0.7);
  EXPECT_EQ(config->grpo.minibatches, 1);
  EXPECT_EQ(config->grpo.kl.coefficient, 0);
  EXPECT_TRUE(config->TrainsOnRollouts());
  EXPECT_EQ(config->data.sequence_length, 1024);
  const auto again = ParseConfig(WriteConfig(*config), "b.yaml", {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(WriteConfig(*again), WriteConfig(*config));
}

TEST(Config, APresetDecidesWhatIsNotGiven) {
  const auto dapo = ParseConfig(std::string(kGrpo) + "grpo: {preset: dapo, clip: {low: 0.1}}\n", "a.yaml", {});
  ASSERT_TRUE(dapo.ok()) << dapo.status();
  EXPECT_EQ(dapo->grpo.aggregate, "token");
  EXPECT_EQ(dapo->grpo.clip.low, 0.1);
  EXPECT_EQ(dapo->grpo.clip.high, 0.28);
  EXPECT_TRUE(dapo->grpo.dynamic_sampling.enabled);
  EXPECT_EQ(dapo->moe.bias_update_speed, 0);
  EXPECT_EQ(dapo->data.sequence_length, 560);
  ASSERT_EQ(dapo->data.prompts.size(), 1u);
  EXPECT_EQ(dapo->data.prompts[0].task, "addition");
  EXPECT_EQ(dapo->data.validation.at(0).split, "held_out");
  const auto again = ParseConfig(WriteConfig(*dapo), "b.yaml", {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(WriteConfig(*again), WriteConfig(*dapo));
}

TEST(Config, EachRuleNamesKeyValueAndReason) {
  ExpectMessages(
      kRun,
      {{"stage=dpo", "stage: dpo is unknown; choose from pretrain, sft, grpo, reject, distill"},
       {"precision=fp16", "precision: fp16 is unknown; choose from f32, bf16"},
       {"data.tokenizer=\"\"", "data.tokenizer: \"\" is empty"},
       {"data.train=[]", "data.train: no source of training text"},
       {"data.train.0.path=a", "data.train.0: more than one of path, task and synthetic is given; give exactly one"},
       {"data.train.0.synthetic=\"\"", "data.train.0: none of path, task and synthetic is given"},
       {"data.train.0.synthetic=zipf", "data.train.0.synthetic: zipf is unknown; choose from uniform"},
       {"data.train.0.weight=0", "data.train.0.weight: 0.0 is not a share"},
       {"data.train.0.weight=-1", "data.train.0.weight: -1.0 is not a share"},
       {"data.train.0.field=\"\"", "data.train.0.field: \"\" names no field"},
       {"data.validation=[{}]", "data.validation.0: none of path"},
       {"data.sequence_length=0", "data.sequence_length: 0 is outside 1 .. 1048576"},
       {"data.sequence_length=4097", "data.sequence_length: 4097 is more than model.max_position_embeddings, 4096"},
       {"data.validation_fraction=0.6", "data.validation_fraction: 0.6 is outside 0.0 .. 0.5"},
       {"data={train: [{path: a}], validation: [{path: b}], validation_fraction: 0.1}",
        "data.validation_fraction: 0.1 has no effect beside data.validation"},
       {"batch.sequences=0", "batch.sequences: 0 is outside"},
       {"batch.micro_sequences=9", "batch.micro_sequences: 9 is more than batch.sequences, 8"},
       {"batch.micro_sequences=-1", "batch.micro_sequences: -1 is outside"},
       {"batch.micro_sequences=3", "ok"},
       {"batch.ramp={start: 9, steps: 1}", "batch.ramp.start: 9 is outside 0 .. 8"},
       {"batch.ramp.start=2", "batch.ramp.start: 2 and batch.ramp.steps 0: a ramp needs both"},
       {"batch.ramp.steps=2", "batch.ramp.start: 0 and batch.ramp.steps 2"},
       {"batch.ramp={start: 2, steps: 10}", "ok"},
       {"optim.name=sgd", "optim.name: sgd is unknown; choose from adamw"},
       {"optim.lr=-1", "optim.lr: -1.0 is outside"},
       {"optim.betas=[0.9]", "optim.betas: [0.9] must be two numbers"},
       {"optim.betas=[1, 0.9]", "optim.betas.0: 1.0 is not a decay"},
       {"optim.betas=[0.9, -0.1]", "optim.betas.1: -0.1 is not a decay"},
       {"optim.eps=0", "optim.eps: 0.0 must be above 0"},
       {"optim.weight_decay=-1", "optim.weight_decay: -1.0 is outside"},
       {"optim.clip=-1", "optim.clip: -1.0 is outside"},
       {"optim.moments=f16", "optim.moments: f16 is unknown; choose from f32, bf16"},
       {"optim={moments: bf16, betas: [0.9, 0.999]}",
        "optim.moments: bf16 cannot hold moments that decay as slowly as optim.betas says, 0.999: give f32, or betas "
        "of at most 0.99"},
       {"optim={moments: bf16, betas: [0.9, 0.99]}", "ok"},
       {"exact=false", "ok"},
       {"optim.ema=1", "optim.ema: 1.0 is not a decay"},
       {"optim.z_loss=-1", "optim.z_loss: -1.0 is outside"},
       {"optim.schedule.name=step",
        "optim.schedule.name: step is unknown; choose from constant, linear, cosine, wsd, deep"},
       {"optim.schedule.warmup_steps=-1", "optim.schedule.warmup_steps: -1 is outside"},
       {"optim.schedule.final_factor=2", "optim.schedule.final_factor: 2.0 is outside"},
       {"optim.schedule={name: cosine, decay_steps: 5}",
        "optim.schedule.decay_steps: 5 has no effect with the schedule cosine"},
       {"optim.schedule={name: wsd, tail_factor: 0.1}",
        "optim.schedule.tail_factor: 0.1 has no effect with the schedule"},
       {"optim.schedule={name: wsd, tail_steps: 1}", "optim.schedule.tail_steps: 1 has no effect"},
       {"optim.schedule={name: deepseek_v3, constant_steps: 5, decay_steps: 5, tail_steps: 1, tail_factor: 0.03}",
        "ok"},
       {"moe.bias_update_speed=-1", "moe.bias_update_speed: -1.0 is outside"},
       {"moe.balance_loss=-1", "moe.balance_loss: -1.0 is outside"},
       {"moe.mtp_weight=-1", "moe.mtp_weight: -1.0 is outside"},
       {"train.steps=0", "train.steps: 0 is outside"},
       {"train.seed=-1", "train.seed: -1 is outside"},
       {"train.validate_every=-1", "train.validate_every: -1 is outside"},
       {"train.checkpoint_every=-1", "train.checkpoint_every: -1 is outside"},
       {"train.keep=0", "train.keep: 0 is outside"},
       {"train.init_std=-1", "train.init_std: -1.0 is outside"},
       {"checkpoint.weights=f16", "checkpoint.weights: f16 is unknown; choose from f32, bf16"},
       {"run.dir=\"\"", "run.dir: \"\" is empty"}});
  EXPECT_EQ(Message(kRun, {"batch.sequences=1048576", "data.sequence_length=4096"}).substr(0, 52),
            "batch.sequences: 1048576 rows of data.sequence_lengt");
}

constexpr char kDeepseek[] = R"(
data: {train: [{synthetic: uniform}]}
model: {n_routed_experts: 16, num_experts_per_tok: 4, moe_intermediate_size: 64, n_group: 4, topk_group: 2,
        first_k_dense_replace: 1, n_shared_experts: 1, num_nextn_predict_layers: 1, q_lora_rank: 32}
)";

TEST(ModelConfig, EachRuleOfDeepseekNamesKeyValueAndReason) {
  ExpectMessages(
      kDeepseek,
      {{"model.model_type=gpt2",
        "model.model_type: gpt2 is unknown; choose from deepseek_v3, qwen2, qwen3, qwen3_moe, llama"},
       {"model.vocab_size=-1", "model.vocab_size: -1 is outside 0 .. 1048576"},
       {"model.hidden_size=0", "model.hidden_size: 0 is outside 1 .. 1048576"},
       {"model.hidden_size=1048577", "model.hidden_size: 1048577 is outside"},
       {"model.intermediate_size=0", "model.intermediate_size: 0 is outside"},
       {"model.num_hidden_layers=0", "model.num_hidden_layers: 0 is outside 1 .. 1024"},
       {"model.num_attention_heads=0", "model.num_attention_heads: 0 is outside"},
       {"model.num_key_value_heads=2", "model.num_key_value_heads: 2 differs from model.num_attention_heads, 4"},
       {"model.num_key_value_heads=4", "ok"},
       {"model.max_position_embeddings=0", "model.max_position_embeddings: 0 is outside"},
       {"model.rms_norm_eps=0", "model.rms_norm_eps: 0.0 is outside"},
       {"model.rope_theta=0", "model.rope_theta: 0.0 is outside"},
       {"model.initializer_range=-1", "model.initializer_range: -1.0 is outside"},
       {"model.eos_token_id=-2", "model.eos_token_id: -2 is outside"},
       {"model.q_lora_rank=-1", "model.q_lora_rank: -1 is outside"},
       {"model.kv_lora_rank=0", "model.kv_lora_rank: 0 is outside"},
       {"model.qk_nope_head_dim=0", "model.qk_nope_head_dim: 0 is outside"},
       {"model.qk_rope_head_dim=7", "model.qk_rope_head_dim: 7 is odd; rotation acts on pairs"},
       {"model.v_head_dim=0", "model.v_head_dim: 0 is outside"},
       {"model.head_dim=64", "model.head_dim: 64 has no effect in model_type deepseek_v3; remove it (default 0)"},
       {"model.decoder_sparse_step=2", "model.decoder_sparse_step: 2 has no effect in model_type deepseek_v3"},
       {"model.n_routed_experts=1025", "model.n_routed_experts: 1025 is outside 0 .. 1024"},
       {"model.n_routed_experts=18", "model.n_group: 4 does not divide model.n_routed_experts, 18"},
       {"model.n_routed_experts=0", "model.n_shared_experts: 1 has no effect without model.n_routed_experts"},
       {"model.n_group=16", "model.n_group: 16 leaves one expert per group"},
       {"model.n_group=0", "model.n_group: 0 is outside"},
       {"model.topk_group=5", "model.topk_group: 5 is outside 1 .. 4"},
       {"model.num_experts_per_tok=0", "model.num_experts_per_tok: 0 is outside 1 .. 16"},
       {"model.num_experts_per_tok=9",
        "model.num_experts_per_tok: 9 is more than the 8 experts within reach of a token"},
       {"model.moe_intermediate_size=0", "model.moe_intermediate_size: 0 is outside"},
       {"model.first_k_dense_replace=5", "model.first_k_dense_replace: 5 is outside 0 .. 4"},
       {"model.routed_scaling_factor=0", "model.routed_scaling_factor: 0.0 is outside"},
       {"model.num_nextn_predict_layers=-1", "model.num_nextn_predict_layers: -1 is outside"},
       {"model.rope_scaling.factor=2", "model.rope_scaling.type: \"\" means none, but other keys"},
       {"model.rope_scaling={type: llama3, factor: 2}",
        "model.rope_scaling.type: llama3 is not computed for model_type deep"},
       {"model.rope_scaling={type: linear, factor: 2}",
        "model.rope_scaling.type: linear is unknown; choose from yarn, llama3"},
       {"model.rope_scaling={type: yarn, factor: 0.5}", "model.rope_scaling.factor: 0.5 is outside"},
       {"model.rope_scaling={type: yarn, factor: 4}", "ok"},
       {"model.rope_scaling={type: yarn, factor: 4, mscale: 0.7}",
        "model.rope_scaling.mscale: 0.7 beside mscale_all_dim 0.0"},
       {"model.rope_scaling={type: yarn, factor: 4, mscale: 0.7, mscale_all_dim: 0.7}", "ok"},
       {"model.rope_scaling={type: yarn, beta_fast: 1}", "model.rope_scaling.beta_fast: 1.0 must be above beta_slow"}});
  EXPECT_EQ(Message(kDeepseek, {"model.moe_intermediate_size=1048576", "model.hidden_size=1048576",
                                "model.n_shared_experts=0", "model.n_routed_experts=1024", "model.n_group=1",
                                "model.topk_group=1", "model.num_hidden_layers=1024"})
                .substr(0, 57),
            "model.hidden_size: 1048576 and the other sizes make about");
}

TEST(ModelConfig, EachRuleOfTheOthersNamesKeyValueAndReason) {
  ExpectMessages(
      std::string(kRun) + "model: {model_type: llama, num_key_value_heads: 2}\n",
      {{"model.num_key_value_heads=3", "model.num_key_value_heads: 3 does not divide model.num_attention_heads, 4"},
       {"model.num_key_value_heads=8", "model.num_key_value_heads: 8 is outside 0 .. 4"},
       {"model.hidden_size=257", "model.num_attention_heads: 4 does not divide model.hidden_size, 257"},
       {"model.hidden_size=252", "model.head_dim: 63 is odd"},
       {"model.head_dim=33", "model.head_dim: 33 is odd"},
       {"model.kv_lora_rank=32", "model.kv_lora_rank: 32 has no effect in model_type llama; remove it (default 64)"},
       {"model.n_routed_experts=8", "model.n_routed_experts: 8 has no effect in model_type llama"},
       {"model.rope_scaling={type: llama3, factor: 8, high_freq_factor: 1}",
        "model.rope_scaling.high_freq_factor: 1.0 must be above low_freq_factor"},
       {"model.rope_scaling={type: yarn, factor: 8}", "model.rope_scaling.type: yarn is not computed"}});
  ExpectMessages(std::string(kRun) +
                     "model: {model_type: qwen3_moe, n_routed_experts: 4, num_experts_per_tok: 2, "
                     "moe_intermediate_size: 8}\n",
                 {{"model.mlp_only_layers=[0, 4]", "model.mlp_only_layers: 4 is outside 0 .. 3"},
                  {"model.decoder_sparse_step=0", "model.decoder_sparse_step: 0 is outside"},
                  {"model.n_group=2", "model.n_group: 2 has no effect in model_type qwen3_moe"}});
}

TEST(ModelConfig, Bf16NeedsEvenWidths) {
  for (const char* key : {"hidden_size", "intermediate_size", "moe_intermediate_size", "q_lora_rank", "kv_lora_rank",
                          "qk_nope_head_dim", "v_head_dim"}) {
    const std::string odd = std::string("model.") + key + "=33";
    EXPECT_EQ(Message(kDeepseek, {odd}), "ok");
    EXPECT_EQ(Message(kDeepseek, {odd, "precision=bf16"}),
              std::string("model.") + key + ": 33 is odd; precision bf16 reads pairs along every width: make it even");
  }
}

TEST(ModelConfig, KnowsWhichBlocksRoute) {
  const auto routes = [](const ModelConfig& model, int64_t blocks) {
    std::string text;
    for (int64_t layer = 0; layer < blocks; ++layer) text += model.IsMoe(layer) ? 'M' : '-';
    return text;
  };
  ModelConfig model;
  EXPECT_EQ(routes(model, 4), "----");
  model.n_routed_experts = 8;
  model.first_k_dense_replace = 2;
  EXPECT_EQ(routes(model, 5), "--MMM");
  model.first_k_dense_replace = 4;  // all dense, yet the block for multi-token prediction routes
  EXPECT_EQ(routes(model, 5), "----M");
  model = ModelConfig();
  model.model_type = "qwen3_moe";
  model.n_routed_experts = 8;
  EXPECT_EQ(routes(model, 4), "MMMM");
  model.decoder_sparse_step = 2;
  model.mlp_only_layers = {3};
  EXPECT_EQ(routes(model, 6), "-M---M");
}

TEST(ModelConfig, DerivesHeads) {
  ModelConfig model;
  model.num_key_value_heads = 2;
  EXPECT_EQ(model.KeyValueHeads(), 4);
  EXPECT_EQ(model.HeadDim(), 48);
  model.model_type = "llama";
  EXPECT_EQ(model.KeyValueHeads(), 2);
  EXPECT_EQ(model.HeadDim(), 64);
  model.num_key_value_heads = 0;
  model.head_dim = 80;
  EXPECT_EQ(model.KeyValueHeads(), 4);
  EXPECT_EQ(model.HeadDim(), 80);
}

TEST(Config, ShippedFilesAreValidInBothPrecisions) {
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(CONCLAVE_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++num_files;
    for (const std::string precision : {"precision=f32", "precision=bf16"}) {
      const absl::StatusOr<Recipe> recipe = LoadRecipe(entry.path().string(), std::vector<std::string>{precision});
      EXPECT_TRUE(recipe.ok()) << recipe.status();
    }
  }
  EXPECT_GE(num_files, 4);
}

}  // namespace
}  // namespace conclave::core
