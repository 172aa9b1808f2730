// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/answer_rewards.h"

#include <cmath>
#include <optional>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "rl/reward/math_equal.h"
#include "rl/reward/math_parser.h"
#include "rl/reward/response_reward.h"

namespace conclave::rl {
namespace {

constexpr double kRelativeTolerance = 1e-6;

using Compare = Score (*)(std::string_view expected, std::string_view answer);

Score Wrong(Outcome outcome, std::string reason = "") { return {0, outcome, std::move(reason)}; }

Score Right() { return {1, Outcome::kRight, ""}; }

Score Mismatch(std::string_view expected, std::string_view answer) {
  return Wrong(Outcome::kWrong, absl::StrFormat("%s is not %s", core::Quoted(answer), core::Quoted(expected)));
}

std::unique_ptr<Reward> MakeAnswerReward(std::string name, Compare compare, AnswerFallback fallback) {
  return MakeResponseReward(std::move(name), [compare, fallback](const Response& response) {
    if (!response.finished) return Wrong(Outcome::kUnfinished);
    const std::optional<std::string_view> answer = ExtractAnswer(response.text, fallback);
    return answer ? compare(response.answer, *answer) : Wrong(Outcome::kNoAnswer);
  });
}

// "100,200" may be a list where a list is expected; a group that begins with zero is no number of its own.
bool MayBeList(const MathExpression& expected, const MathExpression& answer, std::string_view text) {
  const NodeKind kind = expected[expected.root].kind;
  return answer.ambiguous_comma && (kind == NodeKind::kList || kind == NodeKind::kSet) &&
         text.find(",0") == std::string_view::npos;
}

Score OfComparison(Comparison comparison, std::string_view expected, std::string_view answer) {
  if (comparison == Comparison::kEqual) return Right();
  if (comparison == Comparison::kDifferent) return Mismatch(expected, answer);
  return Wrong(Outcome::kBudgetSpent, absl::StrFormat("to compare %s with %s takes too much work", core::Quoted(answer),
                                                      core::Quoted(expected)));
}

std::string Folded(std::string_view text) {
  std::string folded;
  bool space = false;
  for (const char c : text) {
    if (std::string_view(" \t\r\n").find(c) != std::string_view::npos) {
      space = !folded.empty();
      continue;
    }
    if (space) folded += ' ';
    space = false;
    folded += c;
  }
  return folded;
}

// A decimal with separators of thousands and a currency, or a fraction of two.
std::optional<double> NumberOf(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (std::string_view(" \t\r\n$\\,").find(c) == std::string_view::npos) digits += c;
  }
  const size_t slash = digits.find('/');
  if (slash != std::string::npos) {
    const std::optional<double> over = NumberOf(digits.substr(0, slash)), under = NumberOf(digits.substr(slash + 1));
    if (!over || !under || *under == 0) return std::nullopt;
    return *over / *under;
  }
  // Only what a decimal is made of: no hexadecimal, infinity or NaN.
  if (digits.find_first_not_of("0123456789+-.eE") != std::string::npos) return std::nullopt;
  double value = 0;
  if (!absl::SimpleAtod(digits, &value) || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

Score CompareMathAnswer(std::string_view expected, std::string_view answer) {
  const absl::StatusOr<MathExpression> gold = ParseMath(expected, CommaReading::kThousands);
  if (!gold.ok()) {
    return Wrong(Outcome::kUnparsedGold,
                 absl::StrFormat("the expected answer %s %s", core::Quoted(expected), gold.status().message()));
  }
  const absl::StatusOr<MathExpression> parsed = ParseMath(answer, CommaReading::kThousands);
  if (!parsed.ok()) {
    if ((*gold)[gold->root].kind == NodeKind::kText && IsSameText(expected, answer)) return Right();
    const bool too_much = absl::IsResourceExhausted(parsed.status());
    return Wrong(too_much ? Outcome::kBudgetSpent : Outcome::kUnparsedAnswer,
                 absl::StrFormat("%s %s", core::Quoted(answer), parsed.status().message()));
  }
  Comparison comparison = CompareMath(*gold, *parsed);
  if (comparison == Comparison::kDifferent && MayBeList(*gold, *parsed, answer)) {
    const absl::StatusOr<MathExpression> list = ParseMath(answer, CommaReading::kSeparator);
    if (list.ok()) comparison = CompareMath(*gold, *list);
  }
  if (comparison == Comparison::kDifferent && (*gold)[gold->root].kind == NodeKind::kText &&
      IsSameText(expected, answer)) {
    return Right();
  }
  return OfComparison(comparison, expected, answer);
}

Score CompareExactAnswer(std::string_view expected, std::string_view answer) {
  return Folded(expected) == Folded(answer) ? Right() : Mismatch(expected, answer);
}

Score CompareNumericAnswer(std::string_view expected, std::string_view answer) {
  const std::optional<double> gold = NumberOf(expected), value = NumberOf(answer);
  if (!gold) {
    return Wrong(Outcome::kUnparsedGold,
                 absl::StrFormat("the expected answer %s is no number", core::Quoted(expected)));
  }
  if (!value) return Wrong(Outcome::kUnparsedAnswer, absl::StrFormat("%s is no number", core::Quoted(answer)));
  const bool equal = std::abs(*value - *gold) <= kRelativeTolerance * std::abs(*gold);
  return equal ? Right() : Mismatch(expected, answer);
}

std::unique_ptr<Reward> MakeMathReward(AnswerFallback fallback) {
  return MakeAnswerReward("math", CompareMathAnswer, fallback);
}
std::unique_ptr<Reward> MakeExactReward(AnswerFallback fallback) {
  return MakeAnswerReward("exact", CompareExactAnswer, fallback);
}
std::unique_ptr<Reward> MakeNumericReward(AnswerFallback fallback) {
  return MakeAnswerReward("numeric", CompareNumericAnswer, fallback);
}

absl::Status CheckGold(std::string_view answer) {
  const absl::StatusOr<MathExpression> gold = ParseMath(answer, CommaReading::kThousands);
  if (!gold.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the answer %s %s", core::Quoted(answer), gold.status().message()));
  }
  const Comparison itself = CompareMath(*gold, *gold);
  if (itself == Comparison::kEqual) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("the answer %s cannot be compared, not even with itself", core::Quoted(answer)));
}

}  // namespace conclave::rl
