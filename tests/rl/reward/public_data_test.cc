// SPDX-License-Identifier: Apache-2.0
// The expected answers of public data sets: all are understood, each equals itself, and no two of different value are
// equal.
#include <fstream>
#include <set>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "rl/reward/answer_rewards.h"

namespace conclave::rl {
namespace {

// What stands behind `marker` in the answers of a file; empty if there is no such file.
std::set<std::string> AnswersOf(const std::string& name, const std::string& marker) {
  std::ifstream file(CONCLAVE_SOURCE_DIR "/../shared/data/" + name);
  std::set<std::string> answers;
  for (std::string line; std::getline(file, line);) {
    const std::string answer = nlohmann::json::parse(line)["answer"];
    const size_t at = answer.rfind(marker);
    answers.insert(marker.empty() ? answer : answer.substr(at + marker.size()));
  }
  return answers;
}

class PublicData : public ::testing::TestWithParam<std::pair<std::string, std::string>> {
 protected:
  void SetUp() override {
    answers_ = AnswersOf(GetParam().first, GetParam().second);
    if (answers_.empty()) GTEST_SKIP() << "no ../shared/data/" << GetParam().first;
  }

  std::set<std::string> answers_;
};

TEST_P(PublicData, HasAnswersThatEqualThemselves) {
  for (const std::string& answer : answers_) {
    EXPECT_TRUE(CheckGold(answer).ok()) << CheckGold(answer);
    const Score score = CompareMathAnswer(answer, "\\boxed{" + answer + "}");
    EXPECT_EQ(score.value, 1) << answer << ": " << score.reason;
  }
}

// All that are taken for equal, in both data sets, read one by one: other spellings and units of the same value.
const std::set<std::pair<std::string, std::string>>& EqualPairs() {
  static const auto& pairs = *new std::set<std::pair<std::string, std::string>>{{"-2,1", "1,-2"},
                                                                                {"10,\\!080", "10080"},
                                                                                {"120", "120^\\circ"},
                                                                                {"14,000", "14000"},
                                                                                {"15", "15\\mbox{ cm}^2"},
                                                                                {"2 \\sqrt{5}", "2\\sqrt{5}"},
                                                                                {"30", "30^\\circ"},
                                                                                {"36", "36^\\circ"},
                                                                                {"36", "\\$36"},
                                                                                {"5", "x=5"},
                                                                                {"5,600", "5600"},
                                                                                {"90", "90^\\circ"},
                                                                                {"\\frac14", "\\frac{1}{4}"}};
  return pairs;
}

TEST_P(PublicData, HasNoTwoAnswersOfOtherValueThatAreEqual) {
  for (auto a = answers_.begin(); a != answers_.end(); ++a) {
    for (auto b = std::next(a); b != answers_.end(); ++b) {
      const bool equal = CompareMathAnswer(*a, *b).value == 1;
      EXPECT_EQ(equal, EqualPairs().contains({*a, *b})) << *a << " and " << *b;
    }
  }
}

TEST_P(PublicData, HasAnswersOfWhichEveryDigitCounts) {
  int64_t num_changed = 0;
  for (const std::string& answer : answers_) {
    for (size_t i = 0; i < answer.size(); ++i) {
      if (answer[i] < '0' || answer[i] > '9') continue;
      for (char digit = '0'; digit <= '9'; ++digit) {
        if (digit == answer[i]) continue;
        std::string changed = answer;
        changed[i] = digit;
        EXPECT_EQ(CompareMathAnswer(answer, changed).value, 0) << answer << " and " << changed;
        ++num_changed;
      }
    }
  }
  EXPECT_GT(num_changed, 5000);
}

INSTANTIATE_TEST_SUITE_P(Files, PublicData,
                         ::testing::Values(std::pair<std::string, std::string>("math500/test.jsonl", ""),
                                         std::pair<std::string, std::string>("gsm8k/test.jsonl", "#### ")),
                         [](const auto& test) { return test.param.first.substr(0, test.param.first.find('/')); });

}  // namespace
}  // namespace conclave::rl
