// SPDX-License-Identifier: Apache-2.0
// Where answers are found, and above all where they are not.
#include "rl/reward/answer_extraction.h"

#include <string>

#include "gtest/gtest.h"

namespace conclave::rl {
namespace {

std::string Extract(std::string_view text, AnswerFallback fallback = AnswerFallback::kNone) {
  return std::string(ExtractAnswer(text, fallback).value_or("none"));
}

std::string LastNumber(std::string_view text) { return Extract(text, AnswerFallback::kLastNumber); }

TEST(AnswerExtraction, TakesTheLastAnswerBeforeTheLastBox) {
  EXPECT_EQ(Extract("<answer>5</answer>"), "5");
  EXPECT_EQ(Extract("<answer> 5\n</answer> and \\boxed{7}"), "5");
  EXPECT_EQ(Extract("<answer>5</answer> no, <answer>6</answer>"), "6");
  EXPECT_EQ(Extract("<answer>so \\boxed{5}.</answer>"), "5");
  EXPECT_EQ(Extract("\\boxed{1} or \\boxed{2}"), "2");
  EXPECT_EQ(Extract("\\boxed{\\frac{1}{2}} it is"), "\\frac{1}{2}");
  EXPECT_EQ(Extract("\\boxed{\\{1, 2\\}}"), "\\{1, 2\\}");
  EXPECT_EQ(Extract("\\boxed{\\boxed{5}}"), "5");
}

TEST(AnswerExtraction, FindsNoneWhereNoneIsWhole) {
  EXPECT_EQ(Extract(""), "none");
  EXPECT_EQ(Extract("5"), "none");
  EXPECT_EQ(Extract("<answer>5"), "none");
  EXPECT_EQ(Extract("5</answer>"), "none");
  EXPECT_EQ(Extract("\\boxed{5"), "none");
  EXPECT_EQ(Extract("\\boxed{\\frac{1}{2}"), "none");
  EXPECT_EQ(Extract("</answer>5<answer>"), "none");
}

TEST(AnswerExtraction, NeverLooksIntoThoughts) {
  EXPECT_EQ(Extract("<think>\\boxed{5}</think>"), "none");
  EXPECT_EQ(Extract("<think><answer>5</answer></think> \\boxed{6}"), "6");
  EXPECT_EQ(Extract("<think>a</think><answer>5</answer><think>\\boxed{7}"), "5");
  EXPECT_EQ(Extract("<think>I say <answer>5</answer>"), "none");
  EXPECT_EQ(Extract("\\boxed{5} </think>"), "none") << "a template may have written <think> ahead of the response";
  EXPECT_EQ(Extract("\\boxed{5} </think> \\boxed{6}"), "6");
  EXPECT_EQ(Extract("<answer>5<think>x</think></answer>"), "none") << "an answer is whole or none";
  EXPECT_EQ(LastNumber("<think>5</think>"), "none");
  EXPECT_EQ(LastNumber("6 <think>5"), "6");
}

TEST(AnswerExtraction, FallsBackToTheLastNumberOnlyWhenAsked) {
  EXPECT_EQ(Extract("it is 5"), "none");
  EXPECT_EQ(LastNumber("it is 5."), "5");
  EXPECT_EQ(LastNumber("first 4, then 1,234.5 dollars"), "1,234.5");
  EXPECT_EQ(LastNumber("it is -5"), "-5");
  EXPECT_EQ(LastNumber("7-5"), "5") << "a minus behind a number subtracts";
  EXPECT_EQ(LastNumber("it is 3/4"), "3/4");
  EXPECT_EQ(LastNumber("$18"), "18");
  EXPECT_EQ(LastNumber("10,80"), "80");
  EXPECT_EQ(LastNumber("none"), "none");
  EXPECT_EQ(LastNumber("\\boxed{4} is not 5"), "4");
}

TEST(AnswerExtraction, ThoughtsAreWhatStandsInTheTags) {
  EXPECT_EQ(ExtractThoughts("<think>a</think>b"), "a");
  EXPECT_EQ(ExtractThoughts("<think>a"), "a");
  EXPECT_EQ(ExtractThoughts("a</think>b"), "a");
  EXPECT_EQ(ExtractThoughts("a"), "a");
}

}  // namespace
}  // namespace conclave::rl
