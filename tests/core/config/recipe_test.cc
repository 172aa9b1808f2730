// SPDX-License-Identifier: Apache-2.0
// A file of stages says what as many files without `stages` would say; and what is wrong with one, with its place.
#include "core/config/recipe.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "core/config/yaml.h"

namespace conclave::core {
namespace {

constexpr char kRecipe[] =
    "model: {hidden_size: 32, num_hidden_layers: 2, max_position_embeddings: 64}\n"
    "tasks: {name: addition, digits: 3}\n"
    "data: {train: [{task: addition, count: 100}], sequence_length: 48, max_prompt_tokens: 16}\n"
    "rollout: {max_tokens: 8}\n"
    "reward: [{name: math}, {name: format}]\n"
    "optim: {lr: 1.0e-2, schedule: {name: cosine, warmup_steps: 5}}\n"
    "run: {dir: runs/r}\n"
    "stages:\n"
    "  - {name: base, train: {steps: 7}}\n"
    "  - {name: cold, stage: sft, from: base, sft: {data: demos}, optim: {schedule: {warmup_steps: 0}}}\n"
    "  - {name: rl, stage: grpo, from: cold, reward: [{name: random}], control: true}\n"
    "  - {name: other, stage: sft, from: hub/model, sft: {data: demos}, tasks: {digits: 2}}\n"
    "  - {name: small, stage: sft, model: {model_type: qwen2, hidden_size: 16}, sft: {data: demos}}\n";

Recipe MustParse(const std::string& text, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<Recipe> recipe = ParseRecipe(text, "r.yaml", overrides);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return recipe.ok() ? *std::move(recipe) : Recipe();
}

std::string Error(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const absl::StatusOr<Recipe> recipe = ParseRecipe(text, "r.yaml", overrides);
  return recipe.ok() ? "ok" : std::string(recipe.status().message());
}

// A recipe of a good first stage, on line 4, and `stages`, from line 5 on.
std::string Common(const std::string& stages) {
  return "model: {hidden_size: 32, max_position_embeddings: 64}\n"
         "data: {train: [{synthetic: uniform}], sequence_length: 48}\n"
         "stages:\n"
         "  - {name: base}\n" +
         stages;
}

constexpr char kDistillation[] =
    "model: {hidden_size: 32, max_position_embeddings: 512}\n"
    "tasks: {name: addition}\n"
    "reward: [{name: math}]\n"
    "run: {dir: runs/d}\n"
    "stages:\n"
    "  - {name: base, stage: sft, sft: {data: demos}}\n"
    "  - {name: kept, stage: reject, from: base, reject: {prompts: 9}}\n"
    "  - {name: after, stage: sft, from: base, sft: {data: kept}}\n"
    "  - {name: small, stage: distill, teacher: after, model: {model_type: qwen2}}\n";

TEST(Recipe, SamplesAndTeachersAreThoseOfStages) {
  const Recipe recipe = MustParse(kDistillation);
  ASSERT_EQ(recipe.stages.size(), 4u);
  EXPECT_EQ(recipe.stages[1].config.model.from, "runs/d/stages/base");
  const DataConfig& data = recipe.stages[2].config.data;
  ASSERT_EQ(data.train.size(), 1u);
  EXPECT_EQ(data.train[0].path, "runs/d/stages/kept/data/reject.jsonl");
  EXPECT_EQ(recipe.stages[2].config.sft.data, "");
  EXPECT_EQ(recipe.stages[3].config.teacher, "runs/d/stages/after");
  EXPECT_EQ(WriteRecipe(MustParse(WriteRecipe(recipe))), WriteRecipe(recipe));
  EXPECT_EQ(MustParse(kDistillation, {"stages.small.teacher=hub/big"}).stages[3].config.teacher, "hub/big");
  EXPECT_NE(Error(kDistillation, {"stages.small.teacher=nobody"}).find("teacher: no stage is named"),
            std::string::npos);
  EXPECT_NE(Error(kDistillation, {"stages.after.sft.data=base"})
                .find("sft.data: base is of stage sft, which writes no samples; name one of stage reject"),
            std::string::npos);
  EXPECT_NE(Error(kDistillation, {"stages.after.sft.data=nobody"}).find("data: no stage is named"), std::string::npos);
}

TEST(Recipe, StagesAreWhatFilesOfTheirOwnWouldSay) {
  const Recipe recipe = MustParse(kRecipe);
  ASSERT_EQ(recipe.stages.size(), 5u);
  EXPECT_EQ(recipe.dir, "runs/r");
  EXPECT_FALSE(recipe.IsOneRun());
  const auto cold = ParseConfig(
      "stage: sft\nmodel: {from: runs/r/stages/base}\ntasks: {name: addition, digits: 3}\n"
      "data: {train: [{task: addition, count: 100}], sequence_length: 48, max_prompt_tokens: 16}\n"
      "rollout: {max_tokens: 8}\nreward: [{name: math}, {name: format}]\nsft: {data: demos}\n"
      "optim: {lr: 1.0e-2, schedule: {name: cosine, warmup_steps: 0}}\nrun: {dir: runs/r/stages/cold}\n",
      "cold.yaml", {});
  ASSERT_TRUE(cold.ok()) << cold.status();
  EXPECT_EQ(WriteConfig(recipe.stages[1].config), WriteConfig(*cold));
}

TEST(Recipe, MapsAreMergedAndListsReplaced) {
  const Recipe recipe = MustParse(kRecipe);
  const Config& base = recipe.stages[0].config;
  EXPECT_EQ(base.train.steps, 7);
  EXPECT_EQ(base.run.dir, "runs/r/stages/base");
  EXPECT_EQ(base.optim.schedule.warmup_steps, 5);
  EXPECT_EQ(base.reward.size(), 2u);
  const StagePlan* rl = recipe.Find("rl");
  ASSERT_NE(rl, nullptr);
  EXPECT_TRUE(rl->control);
  EXPECT_EQ(rl->from, "cold");
  EXPECT_EQ(rl->config.model.from, "runs/r/stages/cold");
  ASSERT_EQ(rl->config.reward.size(), 1u);
  EXPECT_EQ(rl->config.reward[0].name, "random");
  EXPECT_EQ(recipe.Find("absent"), nullptr);
}

TEST(Recipe, RowsOfABatchReachTheStagesThatHaveAny) {
  const Recipe recipe = MustParse(kRecipe, {"batch={sequences: 12, micro_sequences: 3}"});
  EXPECT_EQ(recipe.Find("cold")->config.batch.sequences, 12);
  EXPECT_EQ(recipe.Find("rl")->config.batch.sequences, BatchConfig().sequences);
  EXPECT_EQ(recipe.Find("rl")->config.batch.micro_sequences, 3);
  EXPECT_NE(Error(kRecipe, {"stages.rl.batch.sequences=12"}).find("does not go with stage grpo"), std::string::npos);
}

TEST(Recipe, AFolderIsAModelToStartFrom) {
  const StagePlan other = MustParse(kRecipe).stages[3];
  EXPECT_EQ(other.from, "");
  EXPECT_EQ(other.config.model.from, "hub/model");
  EXPECT_EQ(other.config.tasks[0].digits, 2);
  EXPECT_EQ(other.config.tasks[0].name, "addition");
}

TEST(Recipe, AModelOfAnotherTypeTakesNoSizesFromTheTopLevel) {
  const ModelConfig small = MustParse(kRecipe).stages[4].config.model;
  EXPECT_EQ(small.hidden_size, 16);
  EXPECT_EQ(small.num_hidden_layers, ModelConfig().num_hidden_layers);
  const Recipe same = MustParse(Common("  - {name: b, model: {model_type: deepseek_v3, num_hidden_layers: 3}}\n"));
  EXPECT_EQ(same.stages[1].config.model.hidden_size, 32);
  EXPECT_EQ(same.stages[1].config.model.num_hidden_layers, 3);
}

TEST(Recipe, OverridesReachAStageByItsNameAndOthersTheTopLevel) {
  const Recipe recipe = MustParse(kRecipe, {"stages.rl.rollout.group=9", "stages.base.train.steps=3", "train.seed=5",
                                            "train.steps=11", "run.dir=elsewhere"});
  EXPECT_EQ(recipe.Find("rl")->config.rollout.group, 9);
  EXPECT_EQ(recipe.Find("base")->config.rollout.group, RolloutConfig().group);
  EXPECT_EQ(recipe.Find("base")->config.train.steps, 3);
  EXPECT_EQ(recipe.Find("cold")->config.train.steps, 11);
  for (const StagePlan& plan : recipe.stages) EXPECT_EQ(plan.config.train.seed, 5);
  EXPECT_EQ(recipe.Find("rl")->config.model.from, "elsewhere/stages/cold");
}

TEST(Recipe, AFileWithoutStagesIsOneRun) {
  const std::string text = "data: {train: [{synthetic: uniform}]}\nrun: {dir: a/b}\n";
  const Recipe recipe = MustParse(text, {"train.steps=3"});
  ASSERT_TRUE(recipe.IsOneRun());
  EXPECT_EQ(recipe.dir, "a/b");
  EXPECT_EQ(WriteConfig(recipe.stages[0].config),
            WriteConfig(*ParseConfig(text, "a.yaml", std::vector<std::string>{"train.steps=3"})));
}

TEST(Recipe, WrittenReadsBackToTheSameStages) {
  for (const std::string& text : {std::string(kRecipe), Common("")}) {
    const Recipe before = MustParse(text), after = MustParse(WriteRecipe(before));
    EXPECT_EQ(after.dir, before.dir);
    ASSERT_EQ(after.stages.size(), before.stages.size());
    for (size_t i = 0; i < before.stages.size(); ++i) {
      EXPECT_EQ(after.stages[i].name, before.stages[i].name);
      EXPECT_EQ(after.stages[i].from, before.stages[i].from);
      EXPECT_EQ(after.stages[i].control, before.stages[i].control);
      EXPECT_EQ(WriteConfig(after.stages[i].config), WriteConfig(before.stages[i].config));
    }
  }
}

TEST(Recipe, SaysWhatIsWrongAndWhere) {
  const struct {
    std::string stages, error;
  } cases[] = {
      {"  - {name: b, from: bas}\n",
       "r.yaml:5:21: stage b: from: no stage is named \"bas\"; did you mean base? Or a folder is written with a slash, "
       "such as ./bas"},
      {"  - {name: b, from: xyzzy}\n",
       "r.yaml:5:21: stage b: from: no stage is named \"xyzzy\"; a folder is written with a slash, such as ./xyzzy"},
      {"  - {name: b, from: b}\n", "r.yaml:5:21: stage b: from: a stage cannot start from itself"},
      {"  - {name: b, from: c}\n  - {name: c, from: b}\n",
       "r.yaml:5:21: stage b: from: c stands behind it, and stages run in their order; move it up"},
      {"  - {name: base}\n", "r.yaml:5:12: stages: the name base stands twice; give another"},
      {"  - {name: ../b}\n",
       "r.yaml:5:12: stages: \"../b\" is no name of a stage, which its folder is called: up to 64 letters, digits, - "
       "and _, the first a letter"},
      {"  - {name: 7}\n",
       "r.yaml:5:12: stages: \"7\" is no name of a stage, which its folder is called: up to 64 letters, digits, - and "
       "_, the first a letter"},
      {"  - {stage: sft}\n", "r.yaml:5:5: stages: an entry has no name, which its folder is called; add name: ..."},
      {"  - base\n", "r.yaml:5:5: stages: \"base\" is given; an entry is {name: ..., stage: ...}"},
      {"  - {name: b, from: base, model: {hidden_size: 8}}\n",
       "r.yaml:5:27: stage b: model: is given beside from, whose folder decides; remove one of them"},
      {"  - {name: b, run: {dir: x}}\n",
       "r.yaml:5:21: stage b: run.dir: a stage has the folder stages/b in the run.dir of the top level; remove this "
       "one"},
      {"run: here\n", "r.yaml:5:6: stage base: run: \"here\" is given; keys with values is expected"},
      {"  - {name: b, control: maybe}\n", "r.yaml:5:24: stage b: control: \"maybe\" is neither true nor false"},
      {"  - {name: b, optim: {lrr: 1}}\n", "r.yaml:5:23: stage b: unknown key optim.lrr; did you mean optim.lr?"},
      {"  - {name: b, optim: {lr: fast}}\n", "r.yaml:5:27: stage b: optim.lr: \"fast\" is not a number"},
      {"  - {name: b, stage: rl}\n",
       "r.yaml:5:22: stage b: stage: rl is unknown; choose from pretrain, sft, grpo, reject, distill"},
      {"  - {name: b, batch: {sequences: 0}}\n", "r.yaml:5:34: stage b: batch.sequences: 0 is outside 1 .. 1048576"},
  };
  for (const auto& [stages, error] : cases) EXPECT_EQ(Error(Common(stages)), error) << stages;
}

TEST(Recipe, RefusesFilesThatNameNoStageOrNoModel) {
  const std::string data = "data: {train: [{synthetic: uniform}]}\n";
  EXPECT_EQ(Error(data + "stages: []\n").substr(0, 25), "r.yaml:2:9: stages: a lis");
  EXPECT_EQ(Error(data + "stages: {name: b}\n").substr(0, 36), "r.yaml:2:9: stages: keys with values");
  EXPECT_EQ(Error(data + "stages: [{name: b}]\n"),
            "r.yaml:2:10: stage b: model: none is given; add from: STAGE or from: FOLDER, or model with its sizes");
  EXPECT_EQ(std::string(ParseConfig(data + "stages: [{name: b}]\n", "r.yaml", {}).status().message()).substr(0, 20),
            "r.yaml:2:1: stages: ");
}

TEST(Recipe, ErrorsOfOverridesNameTheOverride) {
  EXPECT_EQ(
      Error(kRecipe, {"stages.rll.rollout.group=4"}),
      "override \"stages.rll.rollout.group=4\": stages has no entry named \"rll\"; there are base, cold, rl, other, "
      "small");
  EXPECT_EQ(Error(kRecipe, {"stages.rl.rollout.group=many"}),
            "override \"stages.rl.rollout.group=many\": stage rl: rollout.group: \"many\" is not a whole number");
}

}  // namespace
}  // namespace conclave::core
