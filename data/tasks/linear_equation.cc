// SPDX-License-Identifier: Apache-2.0
// Equations with one whole solution, drawn from the solution backwards. Worked: one equation after the other.
#include <memory>
#include <string>

#include "absl/strings/str_format.h"

#include "data/tasks/draws.h"
#include "data/tasks/kinds.h"

namespace conclave::data {
namespace {

// "3x", "x", "-x".
std::string TimesX(int64_t factor) {
  if (factor == 1 || factor == -1) return factor == 1 ? "x" : "-x";
  return absl::StrFormat("%dx", factor);
}

class LinearEquation final : public Task {
 public:
  LinearEquation(int64_t digits, int64_t level) : digits_(digits), level_(level) {}

  Problem Make(uint64_t number) const override {
    Draws draws(number);
    const int64_t x = Signed(draws), b = Signed(draws);
    const int64_t a = level_ == 1 ? 1 : draws.Uniform(2, 9);
    Problem problem{.answer = absl::StrFormat("%d", x)};
    const std::string last = absl::StrFormat("x=%d", x);
    if (level_ <= 2) {
      problem.prompt = absl::StrFormat("Solve %s%+d=%d", TimesX(a), b, a * x + b);
      problem.worked = a == 1 ? last : absl::StrFormat("%s=%d;%s", TimesX(a), a * x, last);
      return problem;
    }
    int64_t c = draws.Uniform(1, 8);  // of 1 to 9 without a
    if (c >= a) ++c;
    const int64_t constant = level_ == 3 ? b : a * b, d = a * x + constant - c * x;
    const std::string opened = absl::StrFormat("%s%+d=%s%+d", TimesX(a), constant, TimesX(c), d);
    const std::string steps =
        absl::StrFormat("%s%+d=%d;%s=%d", TimesX(a - c), constant, d, TimesX(a - c), d - constant);
    problem.prompt = level_ == 3 ? "Solve " + opened : absl::StrFormat("Solve %d(x%+d)=%s%+d", a, b, TimesX(c), d);
    problem.worked = level_ == 3 ? "" : opened + ";";
    problem.worked += steps;
    if (a - c != 1) problem.worked += ";" + last;
    return problem;
  }

 private:
  int64_t Signed(Draws& draws) const {
    const int64_t value = draws.Digits(digits_);
    return draws.Uniform(0, 1) == 0 ? value : -value;
  }

  int64_t digits_, level_;
};

}  // namespace

std::unique_ptr<Task> NewLinearEquation(const core::TaskConfig& config) {
  return std::make_unique<LinearEquation>(config.digits, config.level);
}

}  // namespace conclave::data
