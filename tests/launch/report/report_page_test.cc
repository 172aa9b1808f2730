// SPDX-License-Identifier: Apache-2.0
// report.html: well-formed whatever models say, complete, small, and a function of what it reads.
#include "launch/report/report_page.h"

#include <cmath>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/program.h"
#include "tests/launch/report/markup.h"
#include "tests/launch/report/some_report.h"

namespace conclave::launch {
namespace {

bool Has(const std::string& page, const std::string& text) { return page.find(text) != std::string::npos; }

TEST(ReportPage, TellsWhatWasRunAndWhatItCameTo) {
  const core::Recipe recipe = SomeRecipe();
  const std::string page = ReportPage(SomeReport(recipe));
  EXPECT_EQ(MarkupError(page), "");
  for (const char* text : {"<h1>some</h1>",
                           "A recipe of 6 stages, 2 of them controls",
                           "5 of 6 done",
                           "addition, level 1",
                           "qwen2, 12,345 parameters",
                           "2026-09-21",
                           "12.5 TFLOP",
                           "5:08",
                           "the control wins",
                           "no clear difference",
                           "0.600 <small>&#177; 0.010</small>",
                           "reward of the samples",
                           "pass@1 on held-out problems",
                           "not begun",
                           "tokens of a response",
                           "<code>12+34=</code>",
                           "&lt;answer&gt;46&lt;/answer&gt;",
                           "Time and compute",
                           "conclave eval runs/some/stages/rl --tasks addition --prompts 256 --samples 8",
                           "name: base"}) {
    EXPECT_TRUE(Has(page, text)) << text;
  }
  EXPECT_TRUE(Has(page, "prefers-color-scheme: dark"));
}

TEST(ReportPage, NeedsNoNetworkAndNoScript) {
  const core::Recipe recipe = SomeRecipe();
  const std::string page = ReportPage(SomeReport(recipe));
  for (const char* text : {"<script", "http://", "https://", "src=", "@import", "url("})
    EXPECT_FALSE(Has(page, text)) << text;
  EXPECT_TRUE(Has(page, "default-src 'none'"));
}

TEST(ReportPage, HoldsWhateverModelsSay) {
  const core::Recipe recipe = SomeRecipe();
  Report report = SomeReport(recipe);
  const std::string hostile[] = {"</script><script>alert(1)</script>",
                                 std::string("a\0b", 3),
                                 "\xFF\xC2",
                                 "\" onload=\"x",
                                 "<!--",
                                 "]]>",
                                 "\x1B[31m",
                                 "&lt;"};
  for (SampleLogLine& line : report.histories[2].samples) {
    for (const std::string& text : hostile) {
      line.samples.push_back({.prompt = text, .answer = text, .response = text, .reward = std::nan("")});
    }
  }
  const std::string page = ReportPage(report);
  EXPECT_EQ(MarkupError(page), "");
  EXPECT_FALSE(Has(page, "<script"));
  EXPECT_TRUE(Has(page, "&lt;script&gt;alert(1)"));
}

TEST(ReportPage, QuotesFoldersForAShell) {
  core::Recipe recipe = SomeRecipe();
  recipe.dir = "my run's";
  const std::string page = ReportPage(SomeReport(recipe));
  EXPECT_TRUE(Has(page, "conclave train &#39;my run&#39;\\&#39;&#39;s/config.yaml&#39; run.dir=ELSEWHERE"));
}

TEST(ReportPage, StaysSmallWhenTheRunWasLong) {
  const core::Recipe recipe = SomeRecipe();
  Report report = SomeReport(recipe);
  for (StageHistory& history : report.histories) {
    history.samples.clear();
    for (const char* figure : {"reward", "loss", "length", "entropy", "load_imbalance", "pass_at_1"}) {
      Series& series = history.figures[figure];
      series.clear();
      for (int step = 1; step <= 20000; ++step) {
        series.push_back({.x = static_cast<double>(step), .y = std::cos(step * 0.37), .error = 0.01});
      }
    }
    for (int64_t step = 1; step <= 1000; ++step) {
      SampleLogLine& line = history.samples.emplace_back(SampleLogLine{.step = step});
      for (const char* prompt : {"a", "b", "c"}) {
        line.samples.push_back({.prompt = prompt, .response = std::string(20000, '<')});
      }
    }
  }
  const std::string page = ReportPage(report);
  EXPECT_EQ(MarkupError(page), "");
  EXPECT_LT(page.size(), 2'000'000u);  // every byte of the responses grows to four
  EXPECT_TRUE(Has(page, " bytes) ... "));
  EXPECT_TRUE(Has(page, "<td class=\"number\">1000</td>"));
}

TEST(ReportPage, OfOneRunLeavesOutWhatRecipesHave) {
  const auto recipe = core::ParseRecipe(
      "stage: grpo\nmodel: {model_type: qwen2, hidden_size: 32, num_hidden_layers: 1}\n"
      "tasks: {name: addition, digits: 2}\ndata: {max_prompt_tokens: 12, sequence_length: 40}\nrollout: {max_tokens: "
      "10}\n"
      "reward: [{name: math}]\nrun: {dir: runs/one}\n",
      "one.yaml", {});
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  Report report{.recipe = *recipe, .rows = {{.done = true, .params = 10, .seconds = 2}}};
  report.histories.push_back(SomeReport(*recipe).histories[0]);
  report.histories[0].figures["reward"] = {{.x = 1, .y = 0.5}, {.x = 2, .y = 0.6}};
  const std::string page = ReportPage(report);
  EXPECT_EQ(MarkupError(page), "");
  EXPECT_TRUE(Has(page, "One run: reinforcement learning"));
  EXPECT_TRUE(Has(page, "Sample answers over time"));
  for (const char* text : {"Does it beat", "<h2>Stages</h2>", "What each stage solves", "conclave eval"}) {
    EXPECT_FALSE(Has(page, text)) << text;
  }
}

TEST(ReportPage, IsReadFromFolders) {
  const TemporaryFolder folder;
  core::Recipe recipe = SomeRecipe();
  recipe.stages.resize(1);
  recipe.stages[0].config.run.dir = folder / "";
  WriteFile(folder / "metrics.jsonl",
            "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": null}\n{\"step\": 3, \"loss\": 1.5, "
            "\"pass_at_1\": 0.5, \"pass_at_1_stderr\": 0.125}\n{\"step\": 4, \"lo");
  WriteFile(folder / "samples.jsonl",
            "{\"step\": 3, \"samples\": [{\"prompt\": \"p\", \"answer\": \"a\", \"response\": \"r\", \"reward\": 1, "
            "\"solved\": true}]}\n");
  const auto report = ReadReport(recipe, {{.name = "base"}});
  ASSERT_TRUE(report.ok()) << report.status();
  const StageHistory& history = report->histories[0];
  EXPECT_EQ(history.last_step, 3);
  ASSERT_EQ(history.Figure("loss").size(), 3u);
  EXPECT_TRUE(std::isnan(history.Figure("loss")[1].y));
  ASSERT_EQ(history.Figure("pass_at_1").size(), 1u);
  EXPECT_EQ(history.Figure("pass_at_1")[0].x, 3);
  EXPECT_EQ(history.Figure("pass_at_1")[0].error, 0.125);
  EXPECT_TRUE(history.Figure("reward").empty());
  ASSERT_EQ(history.samples.size(), 1u);
  EXPECT_EQ(history.samples[0].samples[0].response, "r");
  EXPECT_EQ(ReportPage(*report), ReportPage(*ReadReport(recipe, {{.name = "base"}})));

  // The final evaluation stands for that of the last step.
  StageScores scores;
  scores.samples = {{.prompt = "p", .answer = "a", .response = "final"}};
  const auto scored = ReadReport(recipe, {{.name = "base", .scores = scores}});
  ASSERT_TRUE(scored.ok());
  ASSERT_EQ(scored->histories[0].samples.size(), 1u);
  EXPECT_EQ(scored->histories[0].samples[0].samples[0].response, "final");

  WriteFile(folder / "metrics.jsonl", "{\"step\": 1}\nno json\n");
  const auto broken = ReadReport(recipe, {{.name = "base"}});
  ASSERT_FALSE(broken.ok());
  EXPECT_TRUE(Has(std::string(broken.status().message()), "metrics.jsonl:2:")) << broken.status();
}

}  // namespace
}  // namespace conclave::launch
