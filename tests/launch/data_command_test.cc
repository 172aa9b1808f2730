// SPDX-License-Identifier: Apache-2.0
// Data as a user meets it: the cache, a resume on other data, --validate-data, Ctrl-C while text is tokenized.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/tiny_run.h"

namespace conclave::launch {
namespace {

std::vector<std::string> Validate(const TinyRun& run, const std::string& path, std::vector<std::string> more = {}) {
  std::vector<std::string> arguments = run.TrainArguments({"--validate-data", "data.train.0.path=" + path});
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

TEST(ValidateData, ReportsEveryBrokenRecordAndTrainsNothing) {
  const TinyRun run;
  const std::string path = run.folder() / "a.jsonl";
  WriteFile(path, "{\"text\": \"one\"}\n{\"text\": 2}\n{\"text\": \"three\"}\nfour\n");
  const Outcome outcome = RunConclave(run.folder(), Validate(run, path));
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "broken records  2")) << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "a.jsonl:2: the field \"text\" is a number")) << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "a.jsonl:4:")) << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "NOT USABLE")) << outcome.out;
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
}

TEST(ValidateData, SaysWhatARunWouldSee) {
  const TinyRun run;
  const Outcome outcome = RunConclave(run.folder(), Validate(run, run.folder() / "text.txt"));
  ASSERT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(run.Dir()));
  const Outcome train = run.Train({"train.steps=1"});
  // "... 461 rows of 16 tokens; validation 51 rows" against "512 of 16 tokens, 51 of them held out".
  const size_t at = train.out.find("; validation ") + 13;
  const std::string held_out = train.out.substr(at, train.out.find(' ', at) - at);
  EXPECT_TRUE(Contains(outcome.out, ", " + held_out + " of them held out")) << outcome.out << train.out;
  EXPECT_TRUE(Contains(outcome.out, "a run would start with this data")) << outcome.out;
}

TEST(ValidateData, FailsWhereNoRunCouldStart) {
  const TinyRun run;
  WriteFile(run.folder() / "empty.jsonl", "{\"text\": \"\"}\n");
  EXPECT_EQ(RunConclave(run.folder(), Validate(run, run.folder() / "empty.jsonl")).code, 1);
  EXPECT_EQ(RunConclave(run.folder(), Validate(run, run.folder() / "absent.jsonl")).code, 1);
  EXPECT_EQ(RunConclave(run.folder(), Validate(run, run.folder() / "text.txt", {"model.vocab_size=200"})).code, 1);
  EXPECT_EQ(RunConclave(run.folder(), Validate(run, run.folder() / "text.txt", {"data.typo=1"})).code, 2);
  WriteFile(run.folder() / "short.txt", "short");
  const Outcome one_row = RunConclave(run.folder(), Validate(run, run.folder() / "short.txt"));
  EXPECT_EQ(one_row.code, 1);
  EXPECT_TRUE(Contains(one_row.out, "none can be held out")) << one_row.out;
}

TEST(TrainCommand, RefusesToResumeOnOtherDataAndLosesNothing) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"train.steps=4"}).code, 0);
  const std::string hash = run.Hash(), text = ReadFile(run.folder() / "text.txt");
  WriteFile(run.folder() / "text.txt", "other\n" + text);
  const Outcome outcome = run.Train({"train.steps=8"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_TRUE(Contains(outcome.err, "the data is not that of the run in")) << outcome.err;
  EXPECT_EQ(run.Hash(), hash);
  WriteFile(run.folder() / "text.txt", text);
  EXPECT_EQ(run.Train({"train.steps=8", "data.cache=" + (run.folder() / "elsewhere")}).code, 0);
}

TEST(TrainCommand, StoppedWhileTokenizingLeavesNoCacheAndBeginsAnew) {
  const TinyRun run;
  std::string lines;
  for (int i = 0; i < 400000; ++i) lines += "{\"text\": \"line " + std::to_string(i) + " of a text to learn from\"}\n";
  const std::string path = run.folder() / "long.jsonl";
  WriteFile(path, lines);
  const std::vector<std::string> overrides = {"data.train.0.path=" + path, "train.steps=2"};
  const std::string cache = run.folder() / "cache/conclave/tokens";
  auto is_building = [&] {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(cache, ignored)) {
      if (entry.path().extension() == ".tmp") return true;
    }
    return false;
  };
  Program program(run.folder(), run.TrainArguments(overrides));
  ASSERT_TRUE(WaitFor(is_building));
  program.Signal(SIGINT);
  const Outcome outcome = program.Wait();
  EXPECT_EQ(outcome.code, 130) << outcome.out << outcome.err;
  EXPECT_TRUE(Contains(outcome.out, "stopped while reading " + path)) << outcome.out;
  EXPECT_FALSE(is_building());
  EXPECT_EQ(run.Train(overrides).code, 0);
}

}  // namespace
}  // namespace conclave::launch
