// SPDX-License-Identifier: Apache-2.0
// What a recipe tells of its stages, to the letter.
#include "launch/report/recipe_report.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace conclave::launch {
namespace {

std::vector<StageRow> SomeRows() {
  const StageScores scores{.pass_at_1 = {0.25, 0.01},
                           .pass_at_8 = {0.5, 0.025},
                           .majority = {0.375, 0.02},
                           .length = {12.5, 0.25},
                           .greedy = {0.3125, 0.03}};
  return {
      {.name = "base", .done = true, .seconds = 61.5, .flops = 2.5e12, .scores = scores},
      {.name = "cold", .from = "base"},
      {.name = "text", .done = true, .seconds = 2, .flops = 1e9},
      {.name = "zero", .from = "base"},
      {.name = "coin", .from = "cold", .control = true, .done = true, .seconds = 0.5, .flops = 1e9, .scores = scores}};
}

TEST(RecipeReport, PictureIsATreeOfWhoStartsFromWhom) {
  EXPECT_EQ(RecipePicture(SomeRows(), "cold"),
            "  base                                     pass@1 0.250\n"
            ">    cold                                  <- now\n"
            "        coin                      control  pass@1 0.250\n"
            "     zero\n"
            "  text                                     done\n");
}

TEST(RecipeReport, TableHasWhatIsDoneAndControlsBelow) {
  EXPECT_EQ(
      RecipeTable(SomeRows()),
      "stage                        pass@1         pass@8          maj@8         greedy       length      time     "
      "GFLOP\n"
      "base                 0.250 +- 0.010 0.500 +- 0.025 0.375 +- 0.020 0.312 +- 0.030  12.5 +- 0.2      1:02    "
      "2500.0\n"
      "text                                                                                               0:02       "
      "1.0\n"
      "controls\n"
      "coin                 0.250 +- 0.010 0.500 +- 0.025 0.375 +- 0.020 0.312 +- 0.030  12.5 +- 0.2      0:01       "
      "1.0\n");
  EXPECT_EQ(RecipeTable({{.name = "base"}}), "");
}

TEST(RecipeReport, SummaryIsJsonWithNullForScoresThatAreNotThere) {
  EXPECT_EQ(SummaryJson(SomeRows()),
            "{\n  \"stages\": [\n"
            "    {\"name\": \"base\", \"pass_at_1\": 0.25, \"stderr\": 0.01, \"pass_at_8\": 0.5, \"greedy\": 0.3125, "
            "\"length\": 12.5, \"seconds\": 61.5, \"flops\": 2.5e+12},\n"
            "    {\"name\": \"text\", \"pass_at_1\": null, \"stderr\": null, \"pass_at_8\": null, \"greedy\": null, "
            "\"length\": null, \"seconds\": 2, \"flops\": 1e+09}],\n"
            "  \"controls\": [\n"
            "    {\"name\": \"coin\", \"pass_at_1\": 0.25, \"stderr\": 0.01, \"pass_at_8\": 0.5, \"greedy\": 0.3125, "
            "\"length\": 12.5, \"seconds\": 0.5, \"flops\": 1e+09}]\n}\n");
  EXPECT_EQ(SummaryJson({}), "{\n  \"stages\": [],\n  \"controls\": []\n}\n");
}

}  // namespace
}  // namespace conclave::launch
