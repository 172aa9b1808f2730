// SPDX-License-Identifier: Apache-2.0
// Lists into ascending order. Worked: insertion, one list after the other. Lists stand in brackets, so that verifiers
// which compare bare comma lists as sets still see an order.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"

#include "data/tasks/draws.h"
#include "data/tasks/kinds.h"

namespace conclave::data {
namespace {

std::string Tuple(const std::vector<int64_t>& values) {
  std::string text = "(";
  for (const int64_t value : values) text += absl::StrFormat("%s%d", text.size() > 1 ? "," : "", value);
  return text + ")";
}

class Sorting final : public Task {
 public:
  Sorting(int64_t digits, int64_t count) : digits_(digits), count_(count) {}

  Problem Make(uint64_t number) const override {
    Draws draws(number);
    std::vector<int64_t> values, sorted;
    Problem problem;
    for (int64_t i = 0; i < count_; ++i) {
      values.push_back(draws.Digits(digits_));
      sorted.insert(std::upper_bound(sorted.begin(), sorted.end(), values.back()), values.back());
      problem.worked.append(i > 0 ? ";" : "").append(Tuple(sorted));
    }
    problem.prompt = "Sort " + Tuple(values);
    problem.answer = Tuple(sorted);
    return problem;
  }

 private:
  int64_t digits_, count_;
};

}  // namespace

std::unique_ptr<Task> NewSorting(const core::TaskConfig& config) {
  return std::make_unique<Sorting>(config.digits, config.terms + config.level - 1);
}

}  // namespace conclave::data
