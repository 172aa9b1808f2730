// SPDX-License-Identifier: Apache-2.0
#include "data/tasks/countdown.h"

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "data/tasks/task.h"

namespace conclave::data {
namespace {

// With all operators.
std::unique_ptr<Task> Create(core::TaskConfig config) {
  config.name = "countdown";
  config.operators = "+-*/";
  auto task = CreateTask(config, "tasks");
  EXPECT_TRUE(task.ok()) << task.status();
  return std::move(*task);
}

std::vector<std::string> Steps(const std::string& worked) { return absl::StrSplit(worked, ';'); }

TEST(Countdown, GoldAnswersPassTheVerifier) {
  for (int64_t level = 1; level <= 10; ++level) {
    const auto task = Create({.digits = 1 + level % 3, .level = level});
    for (uint64_t number = 0; number < 1000; ++number) {
      const Problem problem = task->Make(number);
      ASSERT_TRUE(CheckCountdown(problem.prompt, problem.answer)) << problem.prompt << ": " << problem.answer;
      ASSERT_FALSE(CheckCountdown(problem.prompt, problem.answer + "+1")) << problem.prompt;
      ASSERT_EQ(Steps(problem.worked).back(), problem.answer);
    }
  }
}

TEST(Countdown, WorkedSolutionsSearchUntilTheyHitTheTarget) {
  const auto task = Create({.terms = 3});
  std::array<int, 4> counts{};
  for (uint64_t number = 0; number < 2000; ++number) {
    const Problem problem = task->Make(number);
    const std::string target = problem.prompt.substr(problem.prompt.rfind(' ') + 1);
    const std::vector<std::string> steps = Steps(problem.worked);
    size_t misses = 0, joins = 0;
    for (const std::string& step : std::span(steps).first(steps.size() - 1)) {
      const std::vector<std::string> sides = absl::StrSplit(step, '=');
      ASSERT_EQ(sides.size(), 2u) << problem.worked;
      const bool missed = sides[1].ends_with("?" + target + ",no"), hit = sides[1].ends_with("?" + target + ",yes");
      const std::string value = sides[1].substr(0, sides[1].find('?'));
      ASSERT_TRUE(CheckCountdown("Use " + std::to_string(std::stoll(sides[0])) + ", " +
                                     sides[0].substr(sides[0].find_first_of("+-*/") + 1) + " once each to make " +
                                     value,
                                 sides[0]))
          << step;
      ++joins;
      // Two joins use three numbers up.
      ASSERT_EQ(missed || hit, joins == 2) << problem.worked;
      ASSERT_EQ(hit, &step == &steps[steps.size() - 2]) << problem.worked;
      if (joins == 2) {
        ASSERT_EQ(missed, value != target) << problem.worked;
        joins = 0;
      }
      misses += missed ? 1 : 0;
    }
    ASSERT_LT(misses, counts.size());
    ++counts[misses];
  }
  for (const int count : counts) EXPECT_GT(count, 350);
}

TEST(CheckCountdown, AcceptsAnyExpressionOfTheNumbersThatGivesTheTarget) {
  const std::string prompt = "Use 8, 3, 5 once each to make 25";
  for (const char* right : {"(8-3)*5", "5*(8-3)", " ( 8 - 3 ) * 5 ", "(8-3)*5=25", "((8)-3)*(5)"}) {
    EXPECT_TRUE(CheckCountdown(prompt, right)) << right;
  }
  EXPECT_TRUE(CheckCountdown("Use 8, 3, 8, 3 once each to make 24", "8/(3-8/3)")) << "fractions on the way";
}

TEST(CheckCountdown, RejectsWhatIsNotExactlyThat) {
  const std::string prompt = "Use 8, 3, 5 once each to make 25";
  for (const char* wrong : {"",
                            "25",
                            "5*5",
                            "8+3+5",
                            "(8-3)*5=26",
                            "(8-3)*5=",
                            "(8-3)*5=25=25",
                            "(8-3)*5 25",
                            "(8-3)*5)",
                            "((8-3)*5",
                            "(8-3)*5+0",
                            "8-3*5",
                            "(8-3)5",
                            "+(8-3)*5",
                            "(8--3)*5",
                            "(8-3)*5/1",
                            "83-5",
                            "(8-3)*5.0",
                            "x",
                            "(",
                            "8/(3-3)*5",
                            "(8-3)*05a",
                            "(8-3)*99999999999999999999"}) {
    EXPECT_FALSE(CheckCountdown(prompt, wrong)) << wrong;
  }
  EXPECT_FALSE(CheckCountdown("Use 8, 3 to make 11", "8/0+3"));
  EXPECT_FALSE(CheckCountdown("no numbers", "1"));
  EXPECT_FALSE(CheckCountdown("Use 9 to make 9", std::string(100000, '(') + "9"));
  EXPECT_FALSE(CheckCountdown("Use 9 to make 9", std::string(200, '(') + "9" + std::string(200, ')')));
}

TEST(CheckCountdown, RejectsWhatOverflowsInsteadOfWrapping) {
  std::string prompt = "Use", product;
  for (int i = 0; i < 8; ++i) {
    prompt += " 4294967296";  // 2^32: the product of two is 0 in 64 bits
    product += (i == 0 ? "" : "*") + std::string("4294967296");
  }
  EXPECT_FALSE(CheckCountdown(prompt + " to make 0", product));
}

}  // namespace
}  // namespace conclave::data
