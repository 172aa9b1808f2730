// SPDX-License-Identifier: Apache-2.0
// Short stories about one quantity: how it starts, what happens to it, what is left. Each event is one operation with a
// whole result that is not negative. Worked: one equation per event.
#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "data/tasks/draws.h"
#include "data/tasks/kinds.h"

namespace conclave::data {
namespace {

constexpr std::array<std::string_view, 12> kNames = {"Anna",  "Ben",  "Carla", "David", "Emma", "Farid",
                                                     "Grace", "Hugo", "Ines",  "Jonas", "Kira", "Leo"};
constexpr std::array<std::string_view, 10> kThings = {"apples", "books",  "coins",   "cards",  "pencils",
                                                      "shells", "stamps", "marbles", "stones", "tickets"};
// How a quantity changes, as it is told: {0} is the person, {1} the other one, {2} the number, {3} the things.
struct Event {
  char operation;
  std::string_view text;
};
constexpr std::array<Event, 9> kEvents = {{{'+', "{0} buys {2} more."},
                                           {'+', "{1} gives {0} {2} {3}."},
                                           {'+', "{0} finds {2} {3} in a box."},
                                           {'-', "{0} gives {2} {3} to {1}."},
                                           {'-', "{0} loses {2} of them."},
                                           {'-', "{0} sells {2} {3}."},
                                           {'*', "Then {0} wins a prize and has {2} times as many."},
                                           {'*', "{1} brings more, so that {0} has {2} times as many."},
                                           {'/', "{0} shares all {3} equally among {2} bags and keeps one bag."}}};
struct Story {
  std::string_view start, question;
  bool multiplies;  // starts with {2} boxes of {4} things
};
constexpr std::array<Story, 4> kStories = {
    {{"{0} has {2} {3}.", "How many {3} does {0} have now?", false},
     {"There are {2} {3} on the table of {0}.", "How many {3} does {0} have in the end?", false},
     {"{0} has {2} boxes with {4} {3} each.", "How many {3} does {0} have now?", true},
     {"{0} gets {4} {3} on each of {2} days.", "How many {3} does {0} have in the end?", true}}};

std::string Tell(std::string_view text, std::span<const std::string> words) {
  std::string told;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '{') {
      told += text[i];
      continue;
    }
    told += words[static_cast<size_t>(text[i + 1] - '0')];
    i += 2;
  }
  return told;
}

// A number that the operation can take, or 0.
int64_t DrawOperand(char operation, int64_t quantity, int64_t most, Draws& draws) {
  switch (operation) {
    case '+':
      return draws.Uniform(2, most);
    case '-':
      return quantity < 3 ? 0 : draws.Uniform(2, std::min(most, quantity - 1));
    case '*':
      return quantity > most * 10 ? 0 : draws.Uniform(2, 5);
    default: {
      const int64_t parts = draws.Uniform(2, 9);
      return quantity > 0 && quantity % parts == 0 ? parts : 0;
    }
  }
}

int64_t ResultOf(int64_t a, char operation, int64_t b) {
  return operation == '+' ? a + b : operation == '-' ? a - b : operation == '*' ? a * b : a / b;
}

class WordProblem final : public Task {
 public:
  WordProblem(int64_t digits, int64_t steps) : most_(PowerOfTen(digits) - 1), steps_(steps) {}

  Problem Make(uint64_t number) const override {
    Draws draws(number);
    Problem problem;
    const Story& story = draws.OneOf(std::span<const Story>(kStories));
    std::array<std::string, 5> words = {std::string(draws.OneOf(std::span<const std::string_view>(kNames)))};
    while (words[1].empty() || words[1] == words[0]) words[1] = draws.OneOf(std::span<const std::string_view>(kNames));
    words[3] = draws.OneOf(std::span<const std::string_view>(kThings));
    int64_t quantity = draws.Uniform(2, most_);
    if (story.multiplies) {
      const int64_t boxes = draws.Uniform(2, 9);
      words[4] = absl::StrFormat("%d", quantity);
      words[2] = absl::StrFormat("%d", boxes);
      problem.worked = absl::StrFormat("%d*%d=%d;", boxes, quantity, boxes * quantity);
      quantity *= boxes;
    } else {
      words[2] = absl::StrFormat("%d", quantity);
    }
    problem.prompt = Tell(story.start, words);
    for (int64_t step = story.multiplies ? 1 : 0; step < steps_; ++step) Happen(draws, words, quantity, problem);
    problem.worked.pop_back();
    problem.prompt += " " + Tell(story.question, words);
    problem.answer = absl::StrFormat("%d", quantity);
    return problem;
  }

 private:
  // One event, drawn until one is possible: adding always is.
  void Happen(Draws& draws, std::array<std::string, 5>& words, int64_t& quantity, Problem& problem) const {
    const Event* event = nullptr;
    int64_t operand = 0;
    while (operand == 0) {
      event = &draws.OneOf(std::span<const Event>(kEvents));
      operand = DrawOperand(event->operation, quantity, most_, draws);
    }
    words[2] = absl::StrFormat("%d", operand);
    problem.prompt += " " + Tell(event->text, words);
    const int64_t result = ResultOf(quantity, event->operation, operand);
    problem.worked += absl::StrFormat("%d%c%d=%d;", quantity, event->operation, operand, result);
    quantity = result;
  }

  int64_t most_, steps_;
};

}  // namespace

std::unique_ptr<Task> NewWordProblem(const core::TaskConfig& config) {
  return std::make_unique<WordProblem>(config.digits, config.level + 1);
}

}  // namespace conclave::data
