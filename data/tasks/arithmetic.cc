// SPDX-License-Identifier: Apache-2.0
// Expressions of several terms. Worked: one operation after the other, products first: 12+7*30= -> 7*30=210;12+210=222.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "data/tasks/draws.h"
#include "data/tasks/kinds.h"

namespace conclave::data {
namespace {

int64_t Apply(int64_t a, char operation, int64_t b) {
  return operation == '*' ? a * b : operation == '+' ? a + b : a - b;
}

class Arithmetic final : public Task {
 public:
  Arithmetic(int64_t digits, int64_t terms, std::string operators)
      : digits_(digits), terms_(terms), operators_(std::move(operators)) {}

  Problem Make(uint64_t number) const override {
    Draws draws(number);
    std::vector<int64_t> values = {draws.Digits(digits_)};
    std::string operations, prompt = absl::StrFormat("%d", values[0]);
    for (int64_t i = 1; i < terms_; ++i) {
      operations += draws.OneOf(std::span<const char>(operators_));
      values.push_back(draws.Digits(digits_));
      prompt += absl::StrFormat("%c%d", operations.back(), values.back());
    }
    std::string worked = Work(values, operations);
    return {.prompt = prompt + "=", .answer = absl::StrFormat("%d", values[0]), .worked = std::move(worked)};
  }

 private:
  // Leaves the result alone in `values`.
  static std::string Work(std::vector<int64_t>& values, std::string& operations) {
    std::string worked;
    while (!operations.empty()) {
      const size_t product = operations.find('*'), at = product == std::string::npos ? 0 : product;
      const int64_t result = Apply(values[at], operations[at], values[at + 1]);
      worked +=
          absl::StrFormat("%s%d%c%d=%d", worked.empty() ? "" : ";", values[at], operations[at], values[at + 1], result);
      values[at] = result;
      values.erase(values.begin() + static_cast<int64_t>(at) + 1);
      operations.erase(at, 1);
    }
    return worked;
  }

  int64_t digits_, terms_;
  std::string operators_;
};

}  // namespace

std::unique_ptr<Task> NewArithmetic(const core::TaskConfig& config) {
  return std::make_unique<Arithmetic>(config.digits, config.terms + config.level - 1, config.operators);
}

}  // namespace conclave::data
