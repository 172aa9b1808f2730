// SPDX-License-Identifier: Apache-2.0
// What stands below the table of a recipe, to the letter.
#include "launch/report/recipe_text.h"

#include <string>

#include "gtest/gtest.h"

#include "tests/launch/report/some_report.h"

namespace conclave::launch {
namespace {

TEST(RecipeCurves, ShowRewardAndLengthSideBySide) {
  const core::Recipe recipe = SomeRecipe();
  const std::string curves =
      ": reward; pass@1 0.400 -> 0.600             length\n"
      "   0.988                   ...::::#    19.750 ##:::...\n"
      "                  ...::::##########           ###########:::...\n"
      "   0.025 ....:::###################    10.125 ###################:::....\n";
  std::string coin = curves;
  coin.erase(coin.find("  length"), 2);
  EXPECT_EQ(RecipeCurves(SomeReport(recipe), PlotCharacters::kAscii), "rl" + curves + "coin" + coin);
}

TEST(RecipeCurves, StandWhereTheyBelongWhenStepsAreFewAndNeedTwo) {
  const core::Recipe recipe = SomeRecipe();
  Report report = SomeReport(recipe);
  for (StageHistory& history : report.histories) history.figures.clear();
  EXPECT_EQ(RecipeCurves(report, PlotCharacters::kBlocks), "");
  report.histories[2].figures["reward"] = {{.x = 1, .y = 0}};
  EXPECT_EQ(RecipeCurves(report, PlotCharacters::kBlocks), "");
  report.histories[2].figures["reward"].push_back({.x = 2, .y = 1});
  report.histories[2].figures["length"] = {{.x = 1, .y = 2}, {.x = 2, .y = 1}};
  EXPECT_EQ(RecipeCurves(report, PlotCharacters::kBlocks),
            "rl: reward                                    length\n"
            "   1.000  \u2588                             2.000 \u2588\n"
            "          \u2588                                   \u2588\n"
            "   0.000 \u2581\u2588                             1.000 \u2588\u2581\n");
}

TEST(RecipeSamples, AreTheLastOfEachStage) {
  const core::Recipe recipe = SomeRecipe();
  Report report = SomeReport(recipe);
  report.histories[0].samples[1].samples[0] = {
      .prompt = "12+34=", .answer = "46", .response = std::string(70, 'x') + "\n\x1B<answer>"};
  report.histories[1].samples.clear();
  report.histories[3].samples.clear();
  EXPECT_EQ(RecipeSamples(report),
            "'12+34=' answer '46'\n"
            "  base                 wrong  ...'" +
                std::string(50, 'x') +
                "\\n\\x1b<answer>'\n"
                "  rl                   right  '<answer>46</answer>'\n"
                "  coin                 right  '<answer>46</answer>'\n"
                "'9+9=' answer '18'\n"
                "  base                 wrong  '17'\n"
                "  rl                   wrong  '17'\n"
                "  coin                 wrong  '17'\n");
}

}  // namespace
}  // namespace conclave::launch
