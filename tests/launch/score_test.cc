// SPDX-License-Identifier: Apache-2.0
// `conclave score` as a user runs it: files of other programs in, the same lines with rewards out.
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

#include "tests/launch/program.h"

namespace conclave::launch {
namespace {

class ScoreCommand : public testing::Test {
 protected:
  Outcome Run(const std::string& lines, std::vector<std::string> more = {}) {
    WriteFile(folder_ / "in.jsonl", lines);
    std::vector<std::string> arguments = {"score", folder_ / "in.jsonl"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunConclave(folder_, arguments);
  }
  std::string Out() const { return folder_ / "out.jsonl"; }

  const TemporaryFolder folder_;
};

TEST_F(ScoreCommand, AddsRewardAndReasonAndKeepsTheRest) {
  const Outcome outcome =
      Run("{\"z\":1,\"response\":\"\\\\boxed{1/2}\",\"answer\":\"0.5\",\"a\":[null,{\"b\":\"\xc3\xa9\"}]}\n"
          "\n"
          "{\"answer\":3,\"response\":\"it is 4\"}\n"
          "{\"answer\":\"3\",\"response\":\"3\",\"finished\":false,\"reward\":9}\n",
          {"--out", Out(), "--threads", "2"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(
      ReadFile(Out()),
      "{\"z\":1,\"response\":\"\\\\boxed{1/2}\",\"answer\":\"0.5\",\"a\":[null,{\"b\":\"\xc3\xa9\"}],\"reward\":1.0,"
      "\"reason\":\"right\"}\n"
      "{\"answer\":3,\"response\":\"it is 4\",\"reward\":0.0,\"reason\":\"'4' is not '3'\"}\n"
      "{\"answer\":\"3\",\"response\":\"3\",\"finished\":false,\"reward\":0.0,\"reason\":\"unfinished\"}\n");
  EXPECT_TRUE(Contains(outcome.out, "mean reward                        0.333333\n")) << outcome.out;
  EXPECT_TRUE(Contains(outcome.out, "unfinished                                1   33.3 %\n")) << outcome.out;
}

TEST_F(ScoreCommand, GivesTheSameLinesForAnyNumberOfThreads) {
  std::string lines;
  for (int i = 0; i < 5000; ++i) {
    lines += "{\"response\":\"" + std::to_string(i % 7) + "\",\"answer\":\"" + std::to_string(i % 5) + "\"}\n";
  }
  ASSERT_EQ(Run(lines, {"--out", Out(), "--threads", "1"}).code, 0);
  const std::string one = ReadFile(Out());
  ASSERT_EQ(Run(lines, {"--out", Out(), "--threads", "3"}).code, 0);
  EXPECT_EQ(ReadFile(Out()), one);
  EXPECT_EQ(std::count(one.begin(), one.end(), '\n'), 5000);
}

TEST_F(ScoreCommand, PrintsOneJsonObjectWhenAsked) {
  const Outcome outcome =
      Run("{\"response\":\"5\",\"answer\":\"5\"}\n{\"response\":\"\",\"answer\":\"5\"}\n", {"--json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_TRUE(
      outcome.out.starts_with("{\"responses\": 2, \"mean\": 0.5, \"right\": 1, \"wrong\": 0, \"no_answer\": 1, "))
      << outcome.out;
}

TEST_F(ScoreCommand, NamesTheBrokenLineAndLeavesTheOldOutput) {
  WriteFile(Out(), "old");
  const std::string good = "{\"response\":\"5\",\"answer\":\"5\"}\n";
  const std::pair<std::string, std::string> cases[] = {
      {"{\"response\":\"5\"}\n", "in.jsonl:2: no field \"answer\"; each line needs `response` and `answer`"},
      {"{\"response\":5,\"answer\":\"5\"}\n", "in.jsonl:2: the field \"response\" is no text"},
      {"[]\n", "in.jsonl:2: not a JSON object"},
      {"{\"response\"\n", "in.jsonl:2:"},
      {"{\"response\":\"\xff\",\"answer\":\"5\"}\n", "in.jsonl:2:"}};
  for (const auto& [line, message] : cases) {
    const Outcome outcome = Run(good + line, {"--out", Out()});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_TRUE(Contains(outcome.err, message)) << outcome.err;
    EXPECT_EQ(ReadFile(Out()), "old");
    EXPECT_FALSE(std::filesystem::exists(Out() + ".tmp"));
  }
}

TEST_F(ScoreCommand, RunsAProgramThatJudges) {
  const std::string lines = "{\"response\":\"a\",\"answer\":\"b\"}\n{\"response\":\"c\",\"answer\":\"d\"}\n";
  const Outcome good =
      Run(lines, {"--out", Out(), "--reward", "program", "--command", "/bin/sed", "s/.*/{\"reward\": 0.25}/"});
  ASSERT_EQ(good.code, 0) << good.err;
  EXPECT_TRUE(Contains(ReadFile(Out()), "\"answer\":\"d\",\"reward\":0.25,\"reason\":\"scored\"}\n"))
      << ReadFile(Out());
  const Outcome bad = Run(lines, {"--reward", "program", "--command", "/bin/false"});
  EXPECT_EQ(bad.code, 1) << "nothing was judged";
  EXPECT_TRUE(Contains(bad.err, "the verifier /bin/false: ended with exit code 1")) << bad.err;
}

TEST_F(ScoreCommand, RefusesOptionsThatDoNotFit) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--reward", "maths"}, "did you mean math?"},
      {{"--reward", "overlong"}, "--reward: overlong counts tokens"},
      {{"--reward", "program"}, "--command: is empty"},
      {{"--command", "/bin/cat"}, "--command: has no effect without --reward program"},
      {{"--reward", "language", "--language", "xx"}, "--language: 'xx' is unknown"}};
  for (const auto& [options, message] : cases) {
    const Outcome outcome = Run("", options);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, message)) << outcome.err;
  }
}

}  // namespace
}  // namespace conclave::launch
