// SPDX-License-Identifier: Apache-2.0
#include "data/tasks/task.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "core/base/hash.h"
#include "data/byte_tokenizer.h"

namespace conclave::data {
namespace {

const char* const kNames[] = {"addition", "arithmetic", "countdown", "linear_equation", "sorting", "word_problem"};

core::TaskConfig Config(const std::string& name, int64_t level = 1) {
  core::TaskConfig config;
  config.name = name;
  config.level = level;
  return config;
}

core::TaskConfig ArithmeticConfig(const std::string& operators, int64_t terms, int64_t digits) {
  core::TaskConfig config = Config("arithmetic");
  config.operators = operators;
  config.terms = terms;
  config.digits = digits;
  return config;
}

std::unique_ptr<Task> Create(const core::TaskConfig& config) {
  auto task = CreateTask(config, "tasks");
  EXPECT_TRUE(task.ok()) << task.status();
  return std::move(*task);
}

std::string Error(const core::TaskConfig& config) {
  return std::string(CreateTask(config, "tasks.0").status().message());
}

TaskSplit CreateSplit(const core::TaskConfig& config, Split split, uint64_t seed = 1) {
  auto result = TaskSplit::Create(config, "tasks", split, seed);
  EXPECT_TRUE(result.ok()) << result.status();
  return std::move(*result);
}

// A value of + - * over whole numbers and x, by its own reading from the right: nothing shared with what made it.
int64_t Value(const std::string& text, int64_t x) {
  int depth = 0;
  for (const char* level : {"+-", "*"}) {
    for (size_t i = text.size(); i-- > 1;) {
      depth += text[i] == ')' ? 1 : text[i] == '(' ? -1 : 0;
      if (depth != 0 || std::string(level).find(text[i]) == std::string::npos) continue;
      if (!std::isdigit(text[i - 1]) && text[i - 1] != 'x' && text[i - 1] != ')') continue;  // a sign
      const int64_t left = Value(text.substr(0, i), x), right = Value(text.substr(i + 1), x);
      return text[i] == '*' ? left * right : text[i] == '+' ? left + right : left - right;
    }
    depth = 0;
  }
  if (text[0] == '-') return -Value(text.substr(1), x);
  if (text.back() == 'x') return text == "x" ? x : x * std::stoll(text.substr(0, text.size() - 1));
  if (text.back() == ')') {
    const size_t open = text.find('(');
    return (open == 0 ? 1 : std::stoll(text.substr(0, open))) * Value(text.substr(open + 1, text.size() - open - 2), x);
  }
  return std::stoll(text);
}

bool Holds(const std::string& equation, int64_t x) {
  const size_t equals = equation.find('=');
  return Value(equation.substr(0, equals), x) == Value(equation.substr(equals + 1), x);
}

std::vector<std::string> Steps(const std::string& worked) { return absl::StrSplit(worked, ';'); }

TEST(Task, AdditionIsRightAndItsColumnsSpellTheAnswer) {
  for (const int64_t digits : {1, 2, 3, 9}) {
    core::TaskConfig config = Config("addition");
    config.digits = digits;
    const auto task = Create(config);
    for (uint64_t number = 0; number < 2000; ++number) {
      const Problem problem = task->Make(number);
      ASSERT_TRUE(problem.prompt.ends_with('='));
      const std::string sum = problem.prompt.substr(0, problem.prompt.size() - 1);
      ASSERT_EQ(static_cast<int64_t>(sum.size()), 2 * digits + 1) << sum;
      ASSERT_EQ(problem.answer, std::to_string(Value(sum, 0))) << sum;
      // The last column whole, then the second digits of the others from the left.
      const std::vector<std::string> columns = absl::StrSplit(problem.worked, ' ');
      ASSERT_EQ(static_cast<int64_t>(columns.size()), digits);
      std::string spelt = std::to_string(std::stoi(columns.back()));
      for (size_t i = columns.size() - 1; i-- > 0;) spelt += columns[i][1];
      ASSERT_EQ(spelt, problem.answer) << problem.worked;
    }
  }
}

TEST(Task, WorkedAdditionOfThreeDigitsFitsTwentyFourTokens) {
  const auto task = Create(Config("addition"));
  for (uint64_t number = 0; number < 2000; ++number) {
    std::vector<int32_t> ids;
    ByteTokenizer().Encode(ToDocument(task->Make(number), AnswerForm::kWorked).assistant, Parse::kSpecial, ids);
    ASSERT_LE(ids.size() + 1, 24u);  // and the end of sequence
  }
}

TEST(Task, ArithmeticIsRightStepByStep) {
  for (const core::TaskConfig& config : {ArithmeticConfig("+", 2, 3), ArithmeticConfig("+-*", 4, 2),
                                         ArithmeticConfig("*", 6, 3), ArithmeticConfig("-+", 16, 9)}) {
    const auto task = Create(config);
    for (uint64_t number = 0; number < 2000; ++number) {
      const Problem problem = task->Make(number);
      ASSERT_TRUE(Holds(problem.prompt + problem.answer, 0)) << problem.prompt << problem.answer;
      const std::vector<std::string> steps = Steps(problem.worked);
      ASSERT_EQ(static_cast<int64_t>(steps.size()), config.terms - 1);
      for (const std::string& step : steps) ASSERT_TRUE(Holds(step, 0)) << step;
      ASSERT_EQ(steps.back().substr(steps.back().find('=') + 1), problem.answer);
    }
  }
}

TEST(Task, EveryStepOfALinearEquationHasTheAnswerAsItsSolution) {
  for (int64_t level = 1; level <= 4; ++level) {
    for (const int64_t digits : {1, 2, 9}) {
      core::TaskConfig config = Config("linear_equation", level);
      config.digits = digits;
      const auto task = Create(config);
      for (uint64_t number = 0; number < 1000; ++number) {
        const Problem problem = task->Make(number);
        const int64_t x = std::stoll(problem.answer);
        const std::string equation = problem.prompt.substr(std::string("Solve ").size());
        ASSERT_TRUE(Holds(equation, x)) << equation << " " << x;
        ASSERT_FALSE(Holds(equation, x + 1)) << equation << " has more than one solution";
        for (const std::string& step : Steps(problem.worked)) ASSERT_TRUE(Holds(step, x)) << step << " " << x;
        ASSERT_EQ(Steps(problem.worked).back(), "x=" + problem.answer);
      }
    }
  }
}

TEST(Task, SortingIsAPermutationInOrderAndTheLastStepIsTheAnswer) {
  const auto numbers = [](const std::string& tuple) {
    std::vector<int64_t> values;
    for (const auto part : absl::StrSplit(tuple.substr(1, tuple.size() - 2), ',')) {
      values.push_back(std::stoll(std::string(part)));
    }
    return values;
  };
  const auto task = Create(Config("sorting", 6));
  for (uint64_t number = 0; number < 1000; ++number) {
    const Problem problem = task->Make(number);
    std::vector<int64_t> given = numbers(problem.prompt.substr(std::string("Sort ").size()));
    ASSERT_EQ(given.size(), 7u);
    std::sort(given.begin(), given.end());
    ASSERT_EQ(numbers(problem.answer), given) << problem.prompt;
    ASSERT_EQ(Steps(problem.worked).back(), problem.answer);
  }
}

TEST(Task, WordProblemsFollowFromTheirEquations) {
  for (int64_t level = 1; level <= 10; ++level) {
    const auto task = Create(Config("word_problem", level));
    for (uint64_t number = 0; number < 500; ++number) {
      const Problem problem = task->Make(number);
      EXPECT_EQ(problem.prompt.find_first_of("{}"), std::string::npos) << problem.prompt;
      const std::vector<std::string> steps = Steps(problem.worked);
      ASSERT_EQ(static_cast<int64_t>(steps.size()), level + 1);
      std::string before;
      for (const std::string& step : steps) {
        const size_t at = step.find_first_of("+-*/"), equals = step.find('=');
        const int64_t a = std::stoll(step), b = std::stoll(step.substr(at + 1)),
                      c = std::stoll(step.substr(equals + 1));
        const int64_t made = step[at] == '+' ? a + b : step[at] == '-' ? a - b : step[at] == '*' ? a * b : a / b;
        ASSERT_EQ(made, c) << step;
        ASSERT_TRUE(step[at] != '/' || b * c == a) << step;
        ASSERT_GE(c, 0) << step;
        // Every operand is told in the story, and every step starts from the one before.
        ASSERT_TRUE(before.empty() || std::to_string(a) == before) << problem.worked;
        ASSERT_NE(problem.prompt.find(" " + std::to_string(b) + " "), std::string::npos) << step << problem.prompt;
        before = std::to_string(c);
      }
      ASSERT_EQ(before, problem.answer);
    }
  }
}

TEST(Task, IsTheSameOnEveryMachine) {
  std::string all;
  for (const char* name : kNames) {
    const auto task = Create(Config(name, 2));
    for (uint64_t number = 0; number < 1000; ++number) {
      const Problem problem = task->Make(number * 0x9E3779B97F4A7C15);
      all += problem.prompt + "|" + problem.answer + "|" + problem.worked + "\n";
    }
  }
  core::Hasher hasher;
  hasher.Update(all.data(), all.size());
  EXPECT_EQ(hasher.HexDigest(), "f77055ec68400f951d8b8a21aaf4f4dc");
}

TEST(Task, EachLevelIsAnotherSetOfProblems) {
  for (const char* name : kNames) {
    const auto easy = Create(Config(name, 1)), hard = Create(Config(name, 3));
    size_t easy_bytes = 0, hard_bytes = 0;
    for (uint64_t number = 0; number < 500; ++number) {
      easy_bytes += easy->Make(number).worked.size();
      hard_bytes += hard->Make(number).worked.size();
    }
    EXPECT_GT(hard_bytes, easy_bytes) << name;
  }
}

TEST(TaskSplit, SplitsNeverShareAProblem) {
  for (const char* name : kNames) {
    std::set<std::string> train;
    const TaskSplit train_split = CreateSplit(Config(name), Split::kTrain, 1);
    for (uint64_t i = 0; i < 10000; ++i) train.insert(train_split.At(i).prompt);
    const TaskSplit held_out = CreateSplit(Config(name), Split::kHeldOut, 2);
    for (uint64_t i = 0; i < 4000; ++i) ASSERT_FALSE(train.contains(held_out.At(i).prompt)) << name;
  }
}

TEST(TaskSplit, SplitsOfAHundredThousandProblemsNeverShareOne) {
  std::set<std::string> train;
  const TaskSplit train_split = CreateSplit(Config("addition"), Split::kTrain),
                  held_out = CreateSplit(Config("addition"), Split::kHeldOut);
  for (uint64_t i = 0; i < 100000; ++i) train.insert(train_split.At(i).prompt);
  EXPECT_GT(train.size(), 90000u);
  for (uint64_t i = 0; i < 10000; ++i) ASSERT_FALSE(train.contains(held_out.At(i).prompt));
}

TEST(TaskSplit, HoldsOutTheShareThatIsAsked) {
  core::TaskConfig config = Config("addition");
  config.digits = 2;  // 8,100 problems
  const auto task = Create(config);
  const TaskSplit held_out = CreateSplit(config, Split::kHeldOut);
  std::set<std::string> held;
  for (uint64_t i = 0; i < 10000; ++i) held.insert(held_out.At(i).prompt);
  int64_t count = 0;
  for (uint64_t number = 0; number < 10000; ++number) count += held.contains(task->Make(number).prompt);
  EXPECT_NEAR(static_cast<double>(count) / 10000, 0.1, 0.015);
}

TEST(TaskSplit, IsAFunctionOfSeedAndIndex) {
  const TaskSplit a = CreateSplit(Config("addition"), Split::kTrain, 5),
                  b = CreateSplit(Config("addition"), Split::kTrain, 5),
                  c = CreateSplit(Config("addition"), Split::kTrain, 6);
  int64_t same = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(a.At(999 - i).prompt, b.At(999 - i).prompt);
    same += a.At(i).prompt == c.At(i).prompt;
  }
  EXPECT_LT(same, 10);
}

TEST(TaskSplit, RefusesASplitWithoutProblems) {
  core::TaskConfig config = Config("addition");
  config.held_out = 0;
  EXPECT_EQ(std::string(TaskSplit::Create(config, "tasks.0", Split::kHeldOut, 1).status().message()),
            "tasks.0: of 4096 problems of the task addition none is in the split held_out; with held_out: 0.0 it is "
            "empty or almost so. Give more digits or levels, or another held_out");
  config.held_out = 1;
  EXPECT_FALSE(TaskSplit::Create(config, "tasks.0", Split::kTrain, 1).ok());
  config.held_out = 0.1;
  config.digits = 1;  // 100 problems
  const TaskSplit small = CreateSplit(config, Split::kHeldOut);
  std::map<std::string, int> counts;
  for (uint64_t i = 0; i < 1000; ++i) ++counts[small.At(i).prompt];
  EXPECT_GT(counts.size(), 2u);
  EXPECT_LT(counts.size(), 30u);
}

TEST(CreateTask, SaysWhatIsWrong) {
  EXPECT_EQ(Error(Config("adition")),
            "tasks.0.name: \"adition\" is not a task, did you mean \"addition\"?; there are addition, arithmetic, "
            "countdown, linear_equation, sorting, word_problem");
  core::TaskConfig config = Config("addition");
  config.digits = 0;
  EXPECT_EQ(Error(config), "tasks.0.digits: 0 is outside 1 .. 9");
  config = Config("addition");
  config.terms = 3;
  EXPECT_EQ(Error(config), "tasks.0.terms: the task addition does not read it; leave it out");
  EXPECT_EQ(Error(Config("linear_equation", 5)), "tasks.0.level: 5 is outside 1 .. 4");
  EXPECT_EQ(Error(ArithmeticConfig("+/", 2, 3)),
            "tasks.0.operators: \"+/\" is not a choice of +-*, each once, as arithmetic has");
  EXPECT_EQ(Error(ArithmeticConfig("++", 2, 3)),
            "tasks.0.operators: \"++\" is not a choice of +-*, each once, as arithmetic has");
  EXPECT_EQ(
      Error(ArithmeticConfig("*", 4, 5)),
      "tasks.0: a product of 4 terms of 5 digits may have more than 18 digits; give fewer terms, digits or levels");
  EXPECT_EQ(Error(ArithmeticConfig("*", 3, 6)), "");
}

TEST(ToDocument, PutsTheAnswerBetweenTags) {
  const Problem problem{.prompt = "1+2=", .answer = "3", .worked = "03"};
  EXPECT_EQ(ToDocument(problem, AnswerForm::kBare).user, "1+2=");
  EXPECT_EQ(ToDocument(problem, AnswerForm::kBare).assistant, "<answer>3</answer>");
  EXPECT_EQ(ToDocument(problem, AnswerForm::kWorked).assistant, "<think>03</think><answer>3</answer>");
}

}  // namespace
}  // namespace conclave::data
