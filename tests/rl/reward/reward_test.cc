// SPDX-License-Identifier: Apache-2.0
// Rewards by name: what each gives, and how they add up.
#include "rl/reward/reward.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "rl/reward/reward_sum.h"

namespace conclave::rl {
namespace {

Score ScoreOf(const core::RewardConfig& config, const Response& response) {
  const auto reward = CreateReward(config);
  EXPECT_TRUE(reward.ok()) << reward.status();
  Score score;
  if (reward.ok()) (*reward)->ScoreAll({&response, 1}, {&score, 1});
  return score;
}

double Value(const char* name, std::string_view text, std::string_view answer = "") {
  core::RewardConfig config;
  config.name = name;
  return ScoreOf(config, {.text = text, .answer = answer}).value;
}

TEST(Reward, CountsAnAnswerOnlyInAFinishedResponse) {
  core::RewardConfig config;
  config.name = "math";
  Response response{.text = "\\boxed{\\frac12}", .answer = "0.5"};
  EXPECT_EQ(ScoreOf(config, response).value, 1);
  response.finished = false;
  EXPECT_EQ(ScoreOf(config, response).value, 0);
  EXPECT_EQ(ScoreOf(config, response).outcome, Outcome::kUnfinished);
}

TEST(Reward, TellsNoAnswerFromAWrongOne) {
  core::RewardConfig config;
  config.name = "math";
  EXPECT_EQ(ScoreOf(config, {.text = "5", .answer = "5"}).outcome, Outcome::kNoAnswer);
  EXPECT_EQ(ScoreOf(config, {.text = "\\boxed{6}", .answer = "5"}).outcome, Outcome::kWrong);
  EXPECT_EQ(ScoreOf(config, {.text = "\\boxed{}", .answer = "5"}).outcome, Outcome::kUnparsedAnswer);
  config.fallback = "last_number";
  EXPECT_EQ(ScoreOf(config, {.text = "5", .answer = "5"}).outcome, Outcome::kRight);
}

TEST(Reward, ExactComparesTextButWhiteSpace) {
  EXPECT_EQ(Value("exact", "<answer>1  2\n3 </answer>", "1 2 3"), 1);
  EXPECT_EQ(Value("exact", "<answer>1 2 3</answer>", "123"), 0);
  EXPECT_EQ(Value("exact", "<answer>A</answer>", "a"), 0);
  EXPECT_EQ(Value("exact", "<answer>0.5</answer>", "1/2"), 0);
}

TEST(Reward, NumericComparesWithinAMillionth) {
  EXPECT_EQ(Value("numeric", "\\boxed{3.1415926}", "3.14159265"), 1);
  EXPECT_EQ(Value("numeric", "\\boxed{3.14158}", "3.14159265"), 0);
  EXPECT_EQ(Value("numeric", "\\boxed{1,234}", "1234"), 1);
  EXPECT_EQ(Value("numeric", "\\boxed{1/3}", "0.3333333"), 1);
  EXPECT_EQ(Value("numeric", "\\boxed{-2}", "2"), 0);
  EXPECT_EQ(Value("numeric", "\\boxed{1e3}", "1000"), 1);
  EXPECT_EQ(Value("numeric", "\\boxed{0.0000001}", "0"), 0) << "a share of zero is zero";
  for (const char* text :
       {"\\boxed{nan}", "\\boxed{inf}", "\\boxed{1e999}", "\\boxed{0x10}", "\\boxed{1/0}", "\\boxed{}"}) {
    EXPECT_EQ(Value("numeric", text, "16"), 0) << text;
  }
}

TEST(Reward, FormatWantsThoughtsThenAnAnswerAndNothingElse) {
  EXPECT_EQ(Value("format", "<think>a</think><answer>5</answer>"), 1);
  EXPECT_EQ(Value("format", " <think>a\n</think>\n\n<answer>5</answer>\n"), 1);
  for (const char* text :
       {"", "<answer>5</answer>", "<think>a</think>", "<answer>5</answer><think>a</think>",
        "a<think>a</think><answer>5</answer>", "<think>a</think>so<answer>5</answer>",
        "<think>a</think><answer>5</answer>.", "<think>a</think><answer>5",
        "<think>a<think>b</think><answer>5</answer>", "<think>a</think><answer>4</answer><answer>5</answer>",
        "<think>a</think><answer><think></think>5</answer>", "<think>a <answer>4</answer></think><answer>5</answer>",
        "<think>a</think></think><answer>5</answer>"}) {
    EXPECT_EQ(Value("format", text), 0) << text;
  }
}

TEST(Reward, LanguageIsTheShareOfLettersOfTheScript) {
  EXPECT_EQ(Value("language", "<think>all English</think>"), 1);
  EXPECT_EQ(Value("language", "<think>ab\xe4\xb8\xad\xe6\x96\x87</think>"), 0.5);  // two Latin, two Han
  EXPECT_EQ(Value("language", "<think>\xe4\xb8\xad</think> English"), 0) << "the answer is not thought";
  EXPECT_EQ(Value("language", "<think>ab $\xce\xb1$ \\(\xce\xb2\\) 12 + 5 = 17</think>"), 1) << "formulas do not count";
  EXPECT_EQ(Value("language", "<think>12 + 5 = 17</think>"), 1);
  EXPECT_EQ(Value("language", "<think>ab\xff\xfe</think>"), 1) << "bytes that are no UTF-8";
  core::RewardConfig config;
  config.name = "language";
  config.language = "zh";
  EXPECT_EQ(ScoreOf(config, {.text = "<think>ab\xe4\xb8\xad</think>"}).value, 1.0 / 3);
  config.language = "klingon";
  EXPECT_FALSE(CreateReward(config).ok());
}

TEST(Reward, LengthAndOverlongFallInALine) {
  core::RewardConfig config;
  config.name = "length";
  config.target_tokens = 100;
  const auto at = [&](int64_t tokens, bool finished) {
    return ScoreOf(config, {.finished = finished, .tokens = tokens, .max_tokens = 200}).value;
  };
  EXPECT_EQ(at(1, true), 0);
  EXPECT_EQ(at(100, true), 0);
  EXPECT_EQ(at(150, true), -0.5);
  EXPECT_EQ(at(200, false), -1);
  config.name = "overlong";
  config.buffer_tokens = 50;
  EXPECT_EQ(at(150, true), 0);
  EXPECT_EQ(at(175, true), -0.5);
  EXPECT_EQ(at(200, true), -1);
  EXPECT_EQ(at(10, false), -1);
}

TEST(Reward, RepetitionIsMinusTheShareOfRepeatedRuns) {
  EXPECT_EQ(Value("repetition", ""), 0);
  EXPECT_EQ(Value("repetition", "a b c d e f g"), 0);
  EXPECT_EQ(Value("repetition", "a b c d a b c d"), -0.2);  // of five runs, the last is the first
  EXPECT_EQ(Value("repetition", "a a a a a"), -0.5);
  EXPECT_EQ(Value("repetition", "ab c d e abc d e"), 0) << "where a word ends counts";
}

TEST(Reward, RandomIsAFairCoinThatTheKeyDecides) {
  core::RewardConfig config;
  config.name = "random";
  double sum = 0;
  for (uint64_t key = 0; key < 10000; ++key) {
    const double value = ScoreOf(config, {.text = "right", .random_key = key}).value;
    EXPECT_EQ(value, ScoreOf(config, {.text = "wrong", .random_key = key}).value);
    EXPECT_TRUE(value == 0 || value == 1);
    sum += value;
  }
  EXPECT_NEAR(sum, 5000, 200);  // four standard deviations
}

TEST(CreateReward, NamesTheNearestAndAllForAnUnknownName) {
  core::RewardConfig config;
  config.name = "maths";
  const absl::Status status = CreateReward(config).status();
  EXPECT_EQ(
      status.message(),
      "name: 'maths' is unknown (did you mean math?); choose from math, exact, numeric, format, language, length, "
      "overlong, repetition, random, program");
  for (const std::string& name : RewardNames()) {
    config.name = name;
    config.target_tokens = config.buffer_tokens = 1;
    config.command = {"/bin/cat"};
    const auto reward = CreateReward(config);
    ASSERT_TRUE(reward.ok()) << reward.status();
    EXPECT_EQ((*reward)->name(), name);
  }
}

TEST(CreateReward, AsksForTheOptionThatARewardNeeds) {
  core::RewardConfig config;
  for (const char* name : {"length", "overlong", "program"}) {
    config.name = name;
    EXPECT_FALSE(CreateReward(config).ok()) << name;
  }
  config.command = {"no_such_program_here"};
  EXPECT_EQ(CreateReward(config).status().message(), "command: 'no_such_program_here' is in no folder of PATH");
}

TEST(RewardSum, AddsWeightedParts) {
  std::vector<core::RewardConfig> configs(2);
  configs[0].name = "math";
  configs[1].name = "format";
  configs[1].weight = 0.1;
  const auto sum = RewardSum::Create(configs);
  ASSERT_TRUE(sum.ok()) << sum.status();
  const std::vector<Response> responses = {{.text = "<think></think><answer>5</answer>", .answer = "5"},
                                           {.text = "<answer>5</answer>", .answer = "5"},
                                           {.text = "<think></think><answer>6</answer>", .answer = "5"}};
  const ScoredBatch batch = sum->ScoreAll(responses);
  EXPECT_EQ(batch.totals, (std::vector<double>{1.1, 1, 0.1}));
  EXPECT_EQ(batch.parts[1][1].value, 0);
  EXPECT_EQ(batch.num_failed, (std::vector<int64_t>{0, 0}));
}

TEST(RewardSum, MasksOrZeroesWhatAVerifierFailedOnAndStopsWhenItIsTooMuch) {
  std::vector<core::RewardConfig> configs(1);
  configs[0].name = "program";
  configs[0].command = {"/bin/false"};
  const Response response;
  for (const char* on_error : {"mask", "zero"}) {
    configs[0].on_error = on_error;
    const auto sum = RewardSum::Create(configs);
    ASSERT_TRUE(sum.ok()) << sum.status();
    const ScoredBatch batch = sum->ScoreAll({&response, 1});
    EXPECT_EQ(batch.masked[0], on_error == std::string("mask"));
    EXPECT_EQ(batch.totals[0], 0);
    EXPECT_EQ(batch.num_failed[0], 1);
    EXPECT_TRUE(sum->CheckFailures(0, 5, 10).ok());
    EXPECT_FALSE(sum->CheckFailures(0, 6, 10).ok());
  }
}

}  // namespace
}  // namespace conclave::rl
