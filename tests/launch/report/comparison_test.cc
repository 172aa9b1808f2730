// SPDX-License-Identifier: Apache-2.0
// Who is compared with whom, and what is said of it.
#include "launch/report/comparison.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "tests/launch/report/some_report.h"

namespace conclave::launch {
namespace {

std::vector<std::string> Lines(const std::vector<Comparison>& comparisons) {
  std::vector<std::string> lines;
  for (const Comparison& c : comparisons) lines.push_back(c.method->name + " " + c.other->name + ": " + c.Verdict());
  return lines;
}

TEST(Comparison, IsOfLearningStagesWithTheirStartAndWithControlsThatHadTheSame) {
  const core::Recipe recipe = SomeRecipe();
  EXPECT_EQ(Lines(CompareWithControls(recipe, SomeReport(recipe).rows)),
            (std::vector<std::string>{"rl cold: better", "rl more: the control wins", "rl coin: better",
                                      "coin cold: no clear difference"}));
}

TEST(Comparison, LeavesOutWhatHasNoScores) {
  const core::Recipe recipe = SomeRecipe();
  std::vector<StageRow> rows = SomeReport(recipe).rows;
  rows[1].scores.reset();
  rows[4].scores.reset();
  EXPECT_EQ(Lines(CompareWithControls(recipe, rows)), (std::vector<std::string>{"rl more: the control wins"}));
}

TEST(Comparison, OfStudentsIsBetweenModelsOfOneSize) {
  const auto recipe = core::ParseRecipe(
      "tasks: {name: addition, digits: 2}\n"
      "model: {model_type: qwen2, hidden_size: 32, num_hidden_layers: 1}\n"
      "data: {max_prompt_tokens: 12, sequence_length: 40}\n"
      "rollout: {max_tokens: 10}\n"
      "reward: [{name: math}]\n"
      "stages:\n"
      "  - {name: teacher, stage: pretrain, data: {train: [{task: addition, count: 200}]}}\n"
      "  - {name: student, stage: distill, teacher: teacher}\n"
      "  - {name: alone, stage: sft, sft: {data: demos, count: 30}, control: true}\n"
      "  - {name: large, stage: sft, sft: {data: demos, count: 30}, control: true}\n",
      "some.yaml", {});
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  std::vector<StageRow> rows;
  for (const core::StagePlan& plan : recipe->stages) {
    rows.push_back({.name = plan.name, .control = plan.control, .params = 100, .scores = ScoresOf(0.5, 0.1)});
  }
  rows[3].params = 200;
  EXPECT_EQ(Lines(CompareWithControls(*recipe, rows)),
            (std::vector<std::string>{"student alone: no clear difference"}));
}

TEST(Comparison, AddsErrorsInSquaresAndClaimsNothingBelowTwo) {
  const core::Recipe recipe = SomeRecipe();
  std::vector<StageRow> rows = SomeReport(recipe).rows;
  rows[1].scores = ScoresOf(0.5, 0.03);
  const auto outcome = [&](double pass_at_1) {
    rows[2].scores = ScoresOf(pass_at_1, 0.04);
    const Comparison first = CompareWithControls(recipe, rows)[0];
    EXPECT_NEAR(first.error, 0.05, 1e-12);
    EXPECT_NEAR(first.difference, pass_at_1 - 0.5, 1e-12);
    return first.outcome();
  };
  EXPECT_EQ(outcome(0.599), Comparison::Outcome::kNoDifference);
  EXPECT_EQ(outcome(0.401), Comparison::Outcome::kNoDifference);
  EXPECT_EQ(outcome(0.601), Comparison::Outcome::kBetter);
  EXPECT_EQ(outcome(0.399), Comparison::Outcome::kWorse);
}

}  // namespace
}  // namespace conclave::launch
