// SPDX-License-Identifier: Apache-2.0
// A problem is made backwards: numbers are joined two by two until one is left, which is the target if it is small
// enough. Worked: a search (Stream of Search, arXiv 2404.03683), some tries that miss the target, the one that hits it,
// then the expression. Who learns it has a way to spend more tokens on a problem, and reason to: more tries hit more.
#include "data/tasks/countdown.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "data/tasks/draws.h"
#include "data/tasks/kinds.h"

namespace conclave::data {
namespace {

constexpr int kMaxTries = 64;
constexpr int64_t kMostMisses = 3;  // in a worked solution
constexpr size_t kMaxAnswerBytes = 1024;
constexpr int kMaxDepth = 64;  // of brackets

// ---- Making ---------------------------------------------------------------------------------------------------------

struct Expression {
  int64_t value;
  std::string text;
  enum { kNumber, kProduct, kSum } binds;  // from tightest to loosest
};

std::string Bracketed(const Expression& expression, bool brackets) {
  return brackets ? "(" + expression.text + ")" : expression.text;
}

// Nothing where the result would not be a whole number from 1 to `most`.
std::optional<Expression> Join(const Expression& a, char operation, const Expression& b, int64_t most) {
  const bool is_sum = operation == '+' || operation == '-';
  Expression joined{.value = a.value + b.value, .binds = is_sum ? Expression::kSum : Expression::kProduct};
  if (operation == '-') joined.value = a.value - b.value;
  if (operation == '*') joined.value = a.value * b.value;
  if (operation == '/') joined.value = a.value % b.value == 0 ? a.value / b.value : 0;
  if (joined.value <= 0 || joined.value > most) return std::nullopt;
  const bool right_needs = operation == '-' || operation == '/' ? b.binds >= joined.binds : b.binds > joined.binds;
  joined.text = Bracketed(a, a.binds > joined.binds) + operation + Bracketed(b, right_needs);
  return joined;
}

struct Solution {
  int64_t target = 0;
  std::string expression, steps;
};

class Countdown final : public Task {
 public:
  explicit Countdown(const core::TaskConfig& config)
      : most_(PowerOfTen(config.digits) - 1), count_(config.terms + config.level - 1), operators_(config.operators) {}

  Problem Make(uint64_t number) const override {
    Draws draws(number);
    std::vector<int64_t> numbers;
    std::string list;
    for (int64_t i = 0; i < count_; ++i) {
      numbers.push_back(draws.Uniform(1, most_));
      list += absl::StrFormat("%s%d", i > 0 ? ", " : "", numbers.back());
    }
    Solution solution;
    for (int tries = 0; solution.target == 0; ++tries)
      solution = Solve(numbers, tries < kMaxTries ? operators_ : "+", draws);
    return {.prompt = absl::StrFormat("Use %s once each to make %d", list, solution.target),
            .answer = solution.expression,
            .worked = Misses(numbers, solution.target, draws) + Try(solution, solution.target) + solution.expression};
  }

 private:
  // Joins random pairs until one is left. No target where that fails, which sums alone never do.
  Solution Solve(const std::vector<int64_t>& numbers, std::string_view operators, Draws& draws) const {
    std::vector<Expression> parts;
    for (const int64_t number : numbers) parts.push_back({number, absl::StrFormat("%d", number), Expression::kNumber});
    std::string steps;
    while (parts.size() > 1) {
      for (size_t i = 0; i < 2; ++i) {  // two random parts come first
        std::swap(parts[i], parts[draws.Uniform(static_cast<int64_t>(i), static_cast<int64_t>(parts.size()) - 1)]);
      }
      const char operation = draws.OneOf(std::span<const char>(operators));
      std::optional<Expression> joined = Join(parts[0], operation, parts[1], most_ * count_);
      if (!joined) return {};
      steps += absl::StrFormat("%d%c%d=%d;", parts[0].value, operation, parts[1].value, joined->value);
      parts[0] = *std::move(joined);
      parts.erase(parts.begin() + 1);
    }
    return {.target = parts[0].value, .expression = parts[0].text, .steps = steps};
  }

  // "2+3=5;5*4=20?24,no;": what came out and what was asked for stand side by side before the verdict.
  static std::string Try(const Solution& solution, int64_t target) {
    const std::string_view steps = std::string_view(solution.steps).substr(0, solution.steps.size() - 1);
    return absl::StrFormat("%s?%d,%s;", steps, target, solution.target == target ? "yes" : "no");
  }

  // Up to kMostMisses tries, where there are others than the target.
  std::string Misses(const std::vector<int64_t>& numbers, int64_t target, Draws& draws) const {
    std::string misses;
    int64_t left = draws.Uniform(0, kMostMisses);
    for (int tries = 0; left > 0 && tries < kMaxTries; ++tries) {
      const Solution miss = Solve(numbers, operators_, draws);
      if (miss.target == 0 || miss.target == target) continue;
      misses += Try(miss, target);
      --left;
    }
    return misses;
  }

  int64_t most_, count_;
  std::string operators_;
};

// ---- Checking -------------------------------------------------------------------------------------------------------

struct Fraction {
  int64_t numerator = 0, denominator = 1;
};

std::optional<Fraction> Reduced(__int128 numerator, __int128 denominator) {
  constexpr __int128 kMost = INT64_MAX;
  if (denominator == 0) return std::nullopt;
  if (denominator < 0) numerator = -numerator, denominator = -denominator;
  __int128 a = numerator < 0 ? -numerator : numerator, b = denominator;
  while (b != 0) a = std::exchange(b, a % b);
  numerator /= a, denominator /= a;
  if (numerator > kMost || numerator < -kMost || denominator > kMost) return std::nullopt;
  return Fraction{static_cast<int64_t>(numerator), static_cast<int64_t>(denominator)};
}

std::optional<Fraction> Apply(Fraction a, char operation, Fraction b) {
  const __int128 an = a.numerator, ad = a.denominator, bn = b.numerator, bd = b.denominator;
  if (operation == '*') return Reduced(an * bn, ad * bd);
  if (operation == '/') return Reduced(an * bd, ad * bn);
  __int128 left = an * bd, right = bn * ad, sum = 0;
  if (operation == '-') right = -right;
  if (__builtin_add_overflow(left, right, &sum)) return std::nullopt;
  return Reduced(sum, ad * bd);
}

class ExpressionReader {
 public:
  explicit ExpressionReader(std::string_view text) : rest_(text) {}

  // Everything up to the end or a "=".
  std::optional<Fraction> Read() { return Sum(0); }
  bool Take(char c) {
    SkipBlanks();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::optional<int64_t> Number() {
    SkipBlanks();
    size_t digits = 0;
    int64_t value = 0;
    for (; digits < rest_.size() && digits < 10 && std::isdigit(static_cast<unsigned char>(rest_[digits])); ++digits) {
      value = value * 10 + (rest_[digits] - '0');
    }
    rest_.remove_prefix(digits);
    if (digits == 0) return std::nullopt;
    used_.push_back(value);
    return value;
  }
  bool AtEnd() {
    SkipBlanks();
    return rest_.empty();
  }
  std::vector<int64_t>& used() { return used_; }

 private:
  void SkipBlanks() {
    while (!rest_.empty() && rest_[0] == ' ') rest_.remove_prefix(1);
  }
  std::optional<Fraction> Sum(int depth) {
    std::optional<Fraction> value = Product(depth);
    while (value) {
      const char operation = Take('+') ? '+' : Take('-') ? '-' : '\0';
      if (operation == '\0') break;
      const std::optional<Fraction> next = Product(depth);
      value = next ? Apply(*value, operation, *next) : std::nullopt;
    }
    return value;
  }
  std::optional<Fraction> Product(int depth) {
    std::optional<Fraction> value = Factor(depth);
    while (value) {
      const char operation = Take('*') ? '*' : Take('/') ? '/' : '\0';
      if (operation == '\0') break;
      const std::optional<Fraction> next = Factor(depth);
      value = next ? Apply(*value, operation, *next) : std::nullopt;
    }
    return value;
  }
  std::optional<Fraction> Factor(int depth) {
    if (Take('(')) {
      if (depth >= kMaxDepth) return std::nullopt;
      const std::optional<Fraction> value = Sum(depth + 1);
      return Take(')') ? value : std::nullopt;
    }
    const std::optional<int64_t> number = Number();
    return number ? std::optional(Fraction{*number, 1}) : std::nullopt;
  }

  std::string_view rest_;
  std::vector<int64_t> used_;
};

// All whole numbers of a prompt, in order.
std::vector<int64_t> NumbersIn(std::string_view prompt) {
  std::vector<int64_t> numbers;
  while (true) {
    const size_t at = prompt.find_first_of("0123456789");
    if (at == std::string_view::npos) return numbers;
    ExpressionReader reader(prompt.substr(at));
    numbers.push_back(*reader.Number());
    prompt.remove_prefix(std::min(prompt.find_first_not_of("0123456789", at), prompt.size()));
  }
}

}  // namespace

bool CheckCountdown(std::string_view prompt, std::string_view answer) {
  std::vector<int64_t> numbers = NumbersIn(prompt);
  if (numbers.size() < 2 || answer.size() > kMaxAnswerBytes) return false;
  const int64_t target = numbers.back();
  numbers.pop_back();
  ExpressionReader reader(answer);
  const std::optional<Fraction> value = reader.Read();
  if (!value || value->denominator != 1 || value->numerator != target) return false;
  std::vector<int64_t> used = reader.used();
  std::sort(used.begin(), used.end());
  std::sort(numbers.begin(), numbers.end());
  if (used != numbers) return false;
  if (reader.Take('=') && reader.Number() != target) return false;
  return reader.AtEnd();
}

std::unique_ptr<Task> NewCountdown(const core::TaskConfig& config) { return std::make_unique<Countdown>(config); }

}  // namespace conclave::data
