// SPDX-License-Identifier: Apache-2.0
// A file of stages as a user runs it: in order, one alone, killed and started again, done.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "core/base/rng.h"
#include "tests/launch/recipe_run.h"
#include "tests/launch/report/markup.h"

namespace conclave::launch {
namespace {

int64_t CountOf(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

class Recipe : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    whole_ = new RecipeFiles;
    outcome_ = new Outcome(whole_->Train());
    ASSERT_EQ(outcome_->code, 0) << outcome_->err;
    everything_ = new std::string(whole_->Everything());
  }
  static void TearDownTestSuite() {
    delete whole_;
    delete outcome_;
    delete everything_;
  }
  static RecipeFiles* whole_;
  static Outcome* outcome_;
  static std::string* everything_;
};

RecipeFiles* Recipe::whole_ = nullptr;
Outcome* Recipe::outcome_ = nullptr;
std::string* Recipe::everything_ = nullptr;

TEST_F(Recipe, EveryStageStartsFromTheModelThatItNames) {
  const auto weights_from = [](const char* stage) { return "weights from " + whole_->StageDir(stage) + "\n"; };
  EXPECT_EQ(CountOf(outcome_->out, weights_from("base")), 1);
  EXPECT_EQ(CountOf(outcome_->out, weights_from("cold")), 2);
  EXPECT_EQ(CountOf(outcome_->out, "<- now"), 4);
  EXPECT_EQ(CountOf(outcome_->out, "held out   pass@1"), 4);
}

TEST_F(Recipe, SummaryHasARowOfEachStageAndControl) {
  const nlohmann::json summary = nlohmann::json::parse(ReadFile(whole_->Dir() + "/summary.json"));
  ASSERT_EQ(summary.at("stages").size(), 3u);
  ASSERT_EQ(summary.at("controls").size(), 1u);
  EXPECT_EQ(summary.at("stages").at(2).at("name"), "rl");
  EXPECT_EQ(summary.at("controls").at(0).at("name"), "more");
  for (const auto& row : summary.at("stages")) {
    EXPECT_EQ(row.size(), 8u);
    for (const char* key : {"pass_at_1", "stderr", "pass_at_8", "greedy"}) {
      EXPECT_GE(row.at(key), 0) << key;
      EXPECT_LE(row.at(key), 1) << key;
    }
    for (const char* key : {"length", "seconds", "flops"}) EXPECT_GT(row.at(key), 0) << key;
  }
}

TEST_F(Recipe, MetricsHaveTheLinesOfAllStagesWithTheirNames) {
  const std::string metrics = ReadFile(whole_->Dir() + "/metrics.jsonl");
  EXPECT_EQ(CountLines(metrics), 4 * 8);
  for (const char* stage : RecipeFiles::kStages) {
    EXPECT_EQ(CountOf(metrics, "{\"stage\": \"" + std::string(stage) + "\", \"step\": "), 8) << stage;
  }
}

TEST_F(Recipe, TheReportTellsOfAllStages) {
  const std::string page = ReadFile(whole_->Dir() + "/report.html");
  EXPECT_EQ(MarkupError(page), "");
  for (const char* text : {"4 of 4 done", "Does it beat its controls?", "reward of the samples", "Loss, nats per token",
                           "Expert load", "Sample answers over time", "Time and compute"}) {
    EXPECT_NE(page.find(text), std::string::npos) << text;
  }
  for (const char* stage : RecipeFiles::kStages) {
    EXPECT_NE(page.find(std::string("<th>") + stage + "</th>"), std::string::npos) << stage;
    EXPECT_NE(page.find("conclave eval &#39;" + whole_->StageDir(stage) + "&#39;"), std::string::npos) << stage;
  }
  EXPECT_EQ(CountOf(outcome_->out, "rl: reward"), 1);
  // The answers to three problems.
  EXPECT_EQ(CountOf(outcome_->out, "\n  base                 right  ") +
                CountOf(outcome_->out, "\n  base                 wrong  "),
            3);
  EXPECT_EQ(CountOf(outcome_->out, "report     " + whole_->Dir() + "/report.html"), 1);
}

TEST_F(Recipe, GoesOnAfterItsFolderWasMoved) {
  const RecipeFiles moved;
  const std::filesystem::path away = whole_->folder() / "away";  // nothing may be read where it was
  std::filesystem::rename(whole_->Dir(), away);
  std::filesystem::copy(away, moved.Dir(), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(moved.StageDir("more"));
  std::filesystem::remove(moved.StageDir("rl") + "/evaluation.json");
  std::filesystem::remove_all(moved.StageDir("rl") + "/checkpoints/step_8");
  const Outcome outcome = moved.Train();
  std::filesystem::rename(away, whole_->Dir());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(CountOf(outcome.out, "already done"), 2);
  EXPECT_EQ(CountOf(outcome.out, "resuming from"), 1);
  EXPECT_EQ(moved.Everything(), *everything_);
}

TEST_F(Recipe, TheReportIsMadeAnewOnRequest) {
  const std::string path = whole_->Dir() + "/report.html", page = ReadFile(path);
  std::filesystem::remove(path);
  const Outcome report = RunConclave(whole_->folder(), {"report", whole_->Dir()});
  EXPECT_EQ(report.code, 0) << report.err;
  EXPECT_EQ(ReadFile(path), page);
  for (const char* text : {"\ncontrols\nmore ", "rl: reward", "report     "})
    EXPECT_EQ(CountOf(report.out, text), 1) << text;
  // What a moved folder says must not come from the place where it was.
  const std::filesystem::path moved = whole_->folder() / "moved: here";
  std::filesystem::copy(whole_->Dir(), moved, std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(moved / "stages" / "rl" / "checkpoints");
  EXPECT_EQ(RunConclave(whole_->folder(), {"report", moved.string()}).code, 0);
  const std::string of_moved = ReadFile(moved / "report.html");
  EXPECT_EQ(MarkupError(of_moved), "");
  EXPECT_NE(of_moved.find("3 of 4 done"), std::string::npos);
  std::filesystem::remove_all(moved);
  const Outcome nothing = RunConclave(whole_->folder(), {"report", whole_->folder() / "nowhere"});
  EXPECT_EQ(nothing.code, 1);
  EXPECT_NE(nothing.err.find("is not a run folder: it has no config.yaml"), std::string::npos) << nothing.err;
}

TEST_F(Recipe, ACommandOfTheReportGivesTheScoresOfItsRow) {
  const std::string page = ReadFile(whole_->Dir() + "/report.html");
  for (const char* stage : {"base", "rl"}) {
    const std::string dir = whole_->StageDir(stage);
    const nlohmann::json scores = nlohmann::json::parse(ReadFile(dir + "/evaluation.json"));
    EXPECT_NE(page.find(dir + "&#39; --tasks addition --prompts 6 --samples 8 --temperature 1 --max-tokens 10\n"),
              std::string::npos);
    const Outcome eval =
        RunConclave(whole_->folder(), {"eval", dir, "--tasks", "addition", "--prompts", "6", "--samples", "8",
                                       "--temperature", "1", "--max-tokens", "10", "--json", "--threads", "1"});
    ASSERT_EQ(eval.code, 0) << eval.err;
    const nlohmann::json again = nlohmann::json::parse(eval.out);
    for (const char* key : {"pass_at_1", "pass_at_8", "majority", "greedy"}) EXPECT_EQ(again.at(key), scores.at(key));
    EXPECT_EQ(again.at("evaluation_length"), scores.at("length"));
  }
}

TEST_F(Recipe, TheStoredConfigIsTheSameRecipe) {
  const RecipeFiles again;
  ASSERT_EQ(
      RunConclave(again.folder(), {"train", whole_->Dir() + "/config.yaml", "run.dir=" + again.Dir(), "--threads", "1"})
          .code,
      0);
  // Where models come from stands in metrics of no stage, so all that remains is equal.
  EXPECT_EQ(again.Everything(), *everything_);
}

TEST_F(Recipe, AFinishedRecipeSaysSoAndChangesNothing) {
  const std::string page = ReadFile(whole_->Dir() + "/report.html");
  const Outcome again = whole_->Train();
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(ReadFile(whole_->Dir() + "/report.html"), page);
  EXPECT_EQ(CountOf(again.out, "already done"), 4);
  EXPECT_EQ(CountOf(again.out, "<- now"), 0);
  EXPECT_EQ(whole_->Everything(), *everything_);
}

TEST_F(Recipe, KilledAtAnyInstantAndStartedAgainGivesTheSameBits) {
  const RecipeFiles files;
  int kills = 0;
  for (uint64_t start = 0;; ++start) {
    ASSERT_LT(start, 300u);
    Program program(files.folder(), files.TrainArguments());
    const uint64_t draw = core::Philox(core::RandomKey(9, core::RandomPurpose::kTest, 0), start, 0)[0];
    std::this_thread::sleep_for(std::chrono::microseconds(draw % 150000 + start * 6000));
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    if (outcome.code == 0) break;
    ASSERT_EQ(outcome.code, -SIGKILL) << outcome.err;
    ++kills;
  }
  EXPECT_GE(kills, 3);
  EXPECT_EQ(files.Everything(), *everything_);
}

TEST_F(Recipe, KilledAtEachHandOverAndStartedAgainGivesTheSameBits) {
  const RecipeFiles files;
  for (const char* stage : RecipeFiles::kStages) {
    for (const char* last : {"/checkpoints/step_8", "/evaluation.json"}) {
      Program program(files.folder(), files.TrainArguments());
      WaitFor([&] { return std::filesystem::exists(files.StageDir(stage) + last); });
      program.Signal(SIGKILL);
      program.Wait();
    }
  }
  const Outcome outcome = files.Train();
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(files.Everything(), *everything_);
}

TEST_F(Recipe, StagesOneByOneGiveTheSameBits) {
  const RecipeFiles files;
  for (const char* stage : {"base", "cold", "more", "rl"}) {
    const Outcome outcome = files.Train({"--stage", stage});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(CountOf(outcome.out, "<- now"), 1);
  }
  EXPECT_EQ(files.Everything(), *everything_);
}

TEST_F(Recipe, StagesSideBySideGiveTheSameBits) {
  const RecipeFiles files;
  const Outcome outcome = files.Train({"--jobs", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(files.Everything(), *everything_);
  // Whose lines they are; those that read the same stage begin before one of them has ended.
  const size_t rl = outcome.out.find("rl   | "), more = outcome.out.find("more | ");
  ASSERT_NE(std::max(rl, more), std::string::npos) << outcome.out;
  EXPECT_LT(rl, outcome.out.rfind("more | "));
  EXPECT_LT(more, outcome.out.rfind("rl   | "));
  EXPECT_EQ(CountOf(outcome.out, "\nstage "), 1) << outcome.out;  // one table
  EXPECT_EQ(CountOf(files.Train({"--jobs", "3"}).out, "already done"), 4);
}

TEST_F(Recipe, KilledWithStagesSideBySideLeavesNoneBehindAndGivesTheSameBits) {
  const RecipeFiles files;
  for (const char* stage : {"base", "rl"}) {
    Program program(files.folder(), files.TrainArguments({"--jobs", "2"}));
    ASSERT_TRUE(WaitFor([&] { return CountLines(ReadFile(files.StageDir(stage) + "/metrics.jsonl")) >= 2; }));
    program.Signal(SIGKILL);
    program.Wait();
  }
  // At once: the folders are free.
  const Outcome outcome = files.Train({"--jobs", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(files.Everything(), *everything_);
}

TEST_F(Recipe, StoppedWithStagesSideBySideAllSave) {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 75}}) {
    const RecipeFiles files;
    Program program(files.folder(), files.TrainArguments({"--jobs", "2"}));
    ASSERT_TRUE(WaitFor([&] { return CountLines(ReadFile(files.StageDir("rl") + "/metrics.jsonl")) >= 2; }));
    program.Signal(signal);
    const Outcome outcome = program.Wait();
    if (outcome.code != 0) {  // 0: it was quicker
      EXPECT_EQ(outcome.code, code) << outcome.out << outcome.err;
      EXPECT_NE(outcome.out.find("the same command goes on"), std::string::npos) << outcome.out;
      ASSERT_EQ(files.Train().code, 0);
    }
    EXPECT_EQ(files.Everything(), *everything_);
  }
}

TEST_F(Recipe, AFailureStopsTheStagesBesideIt) {
  const RecipeFiles files;
  ASSERT_EQ(files.Train({"--stage", "base"}).code, 0);
  ASSERT_EQ(files.Train({"--stage", "cold"}).code, 0);
  ASSERT_EQ(files.Train({"--stage", "rl", "stages.rl.rollout.group=4"}).code, 0);  // another run than that below
  const Outcome outcome = files.Train({"--jobs", "2", "stages.more.train.steps=4000"});
  EXPECT_EQ(outcome.code, 1) << outcome.out;
  EXPECT_EQ(CountOf(outcome.out, "rl   | error: "), 1) << outcome.out;
  const int64_t done = CountLines(ReadFile(files.StageDir("more") + "/metrics.jsonl"));
  EXPECT_LT(done, 4000);
  EXPECT_TRUE(done == 0 ||
              std::filesystem::exists(files.StageDir("more") + "/checkpoints/step_" + std::to_string(done)));
}

TEST_F(Recipe, AStageWaitsForTheOneItStartsFrom) {
  const RecipeFiles files;
  ASSERT_EQ(files.Train({"--stage", "base", "stages.base.train.steps=3"}).code, 0);
  const Outcome early = files.Train({"--stage", "cold"});
  EXPECT_EQ(early.code, 1);
  EXPECT_NE(early.err.find("stage cold starts from base, which is not done: no checkpoint of step 8"),
            std::string::npos)
      << early.err;
}

TEST_F(Recipe, AStageWhoseInputHasChangedIsNotPassedOff) {
  const RecipeFiles files;
  for (const char* stage : {"base", "cold"}) ASSERT_EQ(files.Train({"--stage", stage}).code, 0);
  ASSERT_EQ(files.Train({"--stage", "base", "stages.base.train.steps=9"}).code, 0);
  const Outcome changed = files.Train({"--stage", "cold", "stages.base.train.steps=9"});
  EXPECT_EQ(changed.code, 1);
  EXPECT_NE(changed.err.find("stage cold was made from stages/base as it was before"), std::string::npos)
      << changed.err;
  std::filesystem::remove_all(files.StageDir("cold"));
  EXPECT_EQ(files.Train({"--stage", "cold", "stages.base.train.steps=9"}).code, 0);
}

TEST_F(Recipe, StoppedByTermSavesAndTheSameCommandGoesOn) {
  const RecipeFiles files;
  Program program(files.folder(), files.TrainArguments());
  ASSERT_TRUE(WaitFor([&] { return CountLines(ReadFile(files.StageDir("rl") + "/metrics.jsonl")) >= 2; }));
  program.Signal(SIGTERM);
  const Outcome outcome = program.Wait();
  if (outcome.code != 0) {  // 0: it was quicker
    EXPECT_EQ(outcome.code, 75) << outcome.err;
    EXPECT_NE(outcome.out.find("the same command goes on"), std::string::npos) << outcome.out;
    ASSERT_EQ(files.Train().code, 0);
  }
  EXPECT_EQ(files.Everything(), *everything_);
}

TEST_F(Recipe, ScoresAreMadeAnewWhenTheirSettingsChange) {
  const RecipeFiles files;
  ASSERT_EQ(files.Train({"--stage", "base"}).code, 0);
  const std::string before = ReadFile(files.StageDir("base") + "/evaluation.json");
  ASSERT_EQ(files.Train({"--stage", "base", "eval.prompts=7"}).code, 0);
  EXPECT_NE(ReadFile(files.StageDir("base") + "/evaluation.json"), before);
  ASSERT_EQ(files.Train({"--stage", "base"}).code, 0);
  EXPECT_EQ(ReadFile(files.StageDir("base") + "/evaluation.json"), before);
  ASSERT_EQ(files.Train({"--stage", "base", "stages.base.train.steps=9"}).code, 0);
  EXPECT_NE(ReadFile(files.StageDir("base") + "/evaluation.json"), before);
}

TEST_F(Recipe, HeldOutProblemsOfFilesAreScoredToo) {
  const RecipeFiles files;
  ASSERT_EQ(files.Train({"--stage", "base"}).code, 0);
  const std::string path = files.folder() / "problems.jsonl";
  WriteFile(path, "{\"prompt\": \"1 and 1\", \"answer\": \"2\"}\n");
  const std::string source = "=[{path: \"" + path + "\"}]";
  ASSERT_EQ(files.Train({"--stage", "cold", "stages.cold.data.validation" + source}).code, 0);  // text, no problems
  EXPECT_EQ(ReadFile(files.StageDir("cold") + "/evaluation.json").find("1 and 1"), std::string::npos);
  const Outcome both = files.Train(
      {"--stage", "more", "stages.more.data.validation" + source, "stages.more.data.prompts=[{task: addition}]"});
  EXPECT_EQ(both.code, 0) << both.err;
  EXPECT_NE(ReadFile(files.StageDir("more") + "/evaluation.json").find("1 and 1"), std::string::npos);
}

TEST_F(Recipe, FlopsAreThoseOfUpdatesAndOfWhatWasGenerated) {
  const nlohmann::json summary = nlohmann::json::parse(ReadFile(whole_->Dir() + "/summary.json"));
  for (const auto& row : summary.at("stages")) {
    const std::string stage = row.at("name"), metrics = ReadFile(whole_->StageDir(stage) + "/metrics.jsonl");
    double updates = 0, generated = 0, per_token = 0;
    for (size_t begin = 0, end; (end = metrics.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const nlohmann::json line = nlohmann::json::parse(metrics.substr(begin, end - begin));
      const double flops = line.at("model_flops_per_second").get<double>() * line.at("seconds").get<double>();
      updates += flops;
      per_token = flops / line.at("tokens").get<double>();
      if (stage != "rl") continue;
      generated += 24 * line.at("length").get<double>() + 8 * line.at("prompt_length").get<double>();
    }
    const double expected = updates + generated * per_token / 3;
    EXPECT_NEAR(row.at("flops").get<double>() / expected, 1, 1e-9) << stage;
  }
}

TEST_F(Recipe, ADryRunSaysWhatCanBeSaidAndWritesNothing) {
  const RecipeFiles files;
  const Outcome outcome = files.Train({"--dry-run"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(CountOf(outcome.out, "dry run: nothing was trained"), 1);
  EXPECT_EQ(CountOf(outcome.out, "which is not done"), 3);
  EXPECT_FALSE(std::filesystem::exists(files.Dir()));
}

TEST_F(Recipe, RefusesWhatIsNoStage) {
  const RecipeFiles files;
  const Outcome unknown = files.Train({"--stage", "cool"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("no stage is named \"cool\"; there are base, cold, rl, more"), std::string::npos)
      << unknown.err;
  const Outcome trace = files.Train({"--trace", files.folder() / "trace"});
  EXPECT_EQ(trace.code, 2);
  const GrpoRun one;
  const Outcome jobs = RunConclave(one.folder(), {"train", one.folder() / "config.yaml", "--jobs", "2"});
  EXPECT_EQ(jobs.code, 2);
  EXPECT_NE(jobs.err.find("has no `stages` that could run side by side"), std::string::npos) << jobs.err;
  const Outcome without = RunConclave(one.folder(), {"train", one.folder() / "config.yaml", "--stage", "rl"});
  EXPECT_EQ(without.code, 2);
  EXPECT_NE(without.err.find("has no `stages`"), std::string::npos) << without.err;
}

TEST_F(Recipe, DataOfOneStageIsValidated) {
  const Outcome base = whole_->Train({"--validate-data", "--stage", "base"});
  EXPECT_EQ(base.code, 0) << base.err;
  EXPECT_NE(base.out.find("a run would start with this data"), std::string::npos) << base.out;
  const Outcome all = whole_->Train({"--validate-data"});
  EXPECT_EQ(all.code, 2);
  EXPECT_NE(all.err.find("--stage: the file has several; give the name of one: base, cold, rl, more"),
            std::string::npos)
      << all.err;
}

}  // namespace
}  // namespace conclave::launch
