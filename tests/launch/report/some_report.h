// SPDX-License-Identifier: Apache-2.0
// A recipe of four stages and two controls as its report sees it: part done, with curves and samples.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "core/config/recipe.h"
#include "launch/report/sections.h"

namespace conclave::launch {

inline core::Recipe SomeRecipe() {
  const auto recipe = core::ParseRecipe(
      "model: {model_type: qwen2, hidden_size: 32, num_hidden_layers: 1}\n"
      "tasks: {name: addition, digits: 2}\n"
      "data: {max_prompt_tokens: 12, sequence_length: 40}\n"
      "rollout: {prompts: 8, group: 3, max_tokens: 10}\n"
      "reward: [{name: math}]\n"
      "train: {steps: 40}\n"
      "run: {dir: runs/some}\n"
      "stages:\n"
      "  - {name: base, stage: pretrain, data: {train: [{task: addition, count: 200}]}}\n"
      "  - {name: cold, stage: sft, from: base, sft: {data: demos, count: 30}}\n"
      "  - {name: rl, stage: grpo, from: cold}\n"
      "  - {name: more, stage: sft, from: cold, sft: {data: demos, count: 30}, control: true}\n"
      "  - {name: coin, stage: grpo, from: cold, control: true, reward: [{name: random}]}\n"
      "  - {name: late, stage: grpo, from: rl}\n",
      "some.yaml", {});
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return *recipe;
}

inline StageScores ScoresOf(double pass_at_1, double error) {
  return {.pass_at_1 = {pass_at_1, error},
          .pass_at_8 = {pass_at_1, error},
          .majority = {pass_at_1, error},
          .length = {12.5, 0.25},
          .greedy = {pass_at_1, error}};
}

inline Report SomeReport(const core::Recipe& recipe) {
  Report report{.recipe = recipe};
  const double scores[] = {0.1, 0.3, 0.6, 0.7, 0.31};
  for (size_t stage = 0; stage < recipe.stages.size(); ++stage) {
    const core::StagePlan& plan = recipe.stages[stage];
    StageRow& row = report.rows.emplace_back(StageRow{.name = plan.name, .from = plan.from, .control = plan.control});
    StageHistory& history = report.histories.emplace_back();
    if (plan.name == "late") continue;
    row.done = true;
    row.model_type = "qwen2";
    row.params = row.active_params = 12345;
    row.seconds = 61.5;
    row.flops = 2.5e12;
    row.scores = ScoresOf(scores[stage], 0.01);
    history.last_step = 40;
    history.last_written = 1790000000;
    const bool rl = plan.config.stage == "grpo";
    for (int step = 1; step <= 40; ++step) {
      const SeriesPoint point{.x = static_cast<double>(step), .y = step / 40.0};
      history.figures[rl ? "reward" : "loss"].push_back(point);
      if (rl) history.figures["length"].push_back({.x = point.x, .y = 20 - 10 * point.y});
    }
    if (rl) history.figures["pass_at_1"] = {{.x = 20, .y = 0.4, .error = 0.02}, {.x = 40, .y = 0.6, .error = 0.02}};
    for (const int64_t step : {20, 40}) {
      history.samples.push_back(
          {.step = step,
           .samples = {
               {.prompt = "12+34=", .answer = "46", .response = "<answer>46</answer>", .reward = 1, .solved = true},
               {.prompt = "9+9=", .answer = "18", .response = "17", .reward = 0}}});
    }
  }
  return report;
}

}  // namespace conclave::launch
