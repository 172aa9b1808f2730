// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_parser.h"

#include <optional>
#include <string>

#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "rl/reward/math_grammar.h"
#include "rl/reward/math_units.h"

namespace conclave::rl {
namespace {

// The node that a sign makes of a term.
std::optional<NodeKind> SignOf(TokenKind kind) {
  switch (kind) {
    case TokenKind::kPlus:
      return NodeKind::kSum;
    case TokenKind::kMinus:
      return NodeKind::kNegate;
    case TokenKind::kPlusMinus:
      return NodeKind::kPlusMinus;
    case TokenKind::kMinusPlus:
      return NodeKind::kMinusPlus;
    default:
      return std::nullopt;
  }
}

bool IsUnitPart(TokenKind kind) {
  switch (kind) {
    case TokenKind::kWord:
    case TokenKind::kLetter:
    case TokenKind::kCaret:
    case TokenKind::kNumber:
    case TokenKind::kSlash:
    case TokenKind::kMinus:
    case TokenKind::kCurrency:
      return true;
    default:
      return false;
  }
}

}  // namespace

MathParser::MathParser(std::string_view source, std::vector<MathToken> tokens)
    : source_(source), tokens_(std::move(tokens)) {
  expression_.nodes.reserve(tokens_.size() + 8);
}

absl::StatusOr<MathExpression> MathParser::Run() {
  if (Is(TokenKind::kEnd)) return absl::InvalidArgumentError("is empty");
  ASSIGN_OR_RETURN(expression_.root, List());
  if (!Is(TokenKind::kEnd)) return Unexpected();
  return std::move(expression_);
}

absl::Status MathParser::Unexpected() const {
  if (Is(TokenKind::kEnd)) return absl::InvalidArgumentError("ends too early");
  return absl::InvalidArgumentError(absl::StrFormat("is not understood at %s", core::Quoted(Now().text)));
}

int MathParser::Add(MathNode node, std::initializer_list<int> children) {
  expression_.nodes.push_back(node);
  const int added = static_cast<int>(expression_.nodes.size()) - 1;
  int last = -1;
  for (const int child : children) Append(added, last, child);
  return added;
}

void MathParser::Append(int parent, int& last, int child) {
  (last < 0 ? At(parent).first : At(last).next) = child;
  last = child;
}

absl::StatusOr<int> MathParser::List() {
  ASSIGN_OR_RETURN(const int first, Item());
  if (!Is(TokenKind::kComma)) return first;
  const int list = Add({NodeKind::kList});
  int last = -1;
  Append(list, last, first);
  while (Take(TokenKind::kComma)) {
    if (Is(TokenKind::kComma) && Now().text != ",") ++position_;  // "1, 2, and 3"
    ASSIGN_OR_RETURN(const int item, Item());
    Append(list, last, item);
  }
  return list;
}

absl::StatusOr<int> MathParser::Item() {
  has_symbol_ = false;
  if (Is(TokenKind::kWord)) return Words();
  ASSIGN_OR_RETURN(int first, SetExpression());
  if (!Is(TokenKind::kRelation)) return WithoutDegrees(first);
  const int relation = Add({NodeKind::kRelation});
  int last = -1;
  Append(relation, last, first);
  while (Is(TokenKind::kRelation)) {
    Append(relation, last, Add({.kind = NodeKind::kOperator, .text = Now().text}));
    ++position_;
    has_symbol_ = false;
    ASSIGN_OR_RETURN(int side, SetExpression());
    ASSIGN_OR_RETURN(side, WithoutDegrees(side));
    Append(relation, last, side);
  }
  return relation;
}

absl::StatusOr<int> MathParser::WithoutDegrees(int value) {
  if (brackets_ > 0) return value;
  const bool negative = At(value).kind == NodeKind::kNegate;
  const int degrees = negative ? At(value).first : value;
  if (At(degrees).kind != NodeKind::kDegree) return value;
  RETURN_IF_ERROR(AddUnit("degrees"));
  if (!negative) return At(degrees).first;
  At(value).first = At(degrees).first;
  return value;
}

// Text up to the end of the item, or the name before "=".
absl::StatusOr<int> MathParser::Words() {
  if (!IsInSource(Now())) return Unexpected();
  const char* const begin = Now().text.data();
  const char* end = begin;
  while ((Is(TokenKind::kWord) || Is(TokenKind::kLetter) || Is(TokenKind::kMinus)) && IsInSource(Now())) {
    end = Now().text.data() + Now().text.size();
    ++position_;
  }
  const int words = Add({.kind = NodeKind::kText, .text = {begin, static_cast<size_t>(end - begin)}});
  if (!Is(TokenKind::kRelation)) return words;
  const int sign = Add({.kind = NodeKind::kOperator, .text = Now().text});
  ++position_;
  ASSIGN_OR_RETURN(const int side, SetExpression());
  return Add({NodeKind::kRelation}, {words, sign, side});
}

absl::StatusOr<int> MathParser::SetExpression() {
  ASSIGN_OR_RETURN(int left, Sum());
  while (Is(TokenKind::kUnion)) {
    const std::string_view sign = Now().text;
    ++position_;
    ASSIGN_OR_RETURN(const int right, Sum());
    left = Add({.kind = NodeKind::kUnion, .text = sign}, {left, right});
  }
  if (Is(TokenKind::kColon)) {
    const int ratio = Add({NodeKind::kRatio});
    int last = -1;
    Append(ratio, last, left);
    while (Take(TokenKind::kColon)) {
      ASSIGN_OR_RETURN(const int term, Sum());
      Append(ratio, last, term);
    }
    left = ratio;
  }
  return left;
}

absl::StatusOr<int> MathParser::Sum() {
  ASSIGN_OR_RETURN(const int first, SignedTerm());
  if (!SignOf(Now().kind)) return first;
  const int sum = Add({NodeKind::kSum});
  int last = -1;
  Append(sum, last, first);
  while (SignOf(Now().kind)) {
    ASSIGN_OR_RETURN(const int term, SignedTerm());
    Append(sum, last, term);
  }
  return sum;
}

absl::StatusOr<int> MathParser::SignedTerm() {
  const std::optional<NodeKind> sign = SignOf(Now().kind);
  if (!sign) return Product();
  ++position_;
  if (SignOf(Now().kind)) return Unexpected();  // "--1"
  ASSIGN_OR_RETURN(const int term, Product());
  return *sign == NodeKind::kSum ? term : Add({*sign}, {term});
}

absl::StatusOr<int> MathParser::Product() {
  const bool currency = Take(TokenKind::kCurrency);
  if (currency) RETURN_IF_ERROR(AddUnit("dollars"));
  ASSIGN_OR_RETURN(int left, Factor());
  while (true) {
    if (Take(TokenKind::kTimes)) {
      ASSIGN_OR_RETURN(const int right, SignedFactor());
      left = Add({NodeKind::kProduct}, {left, right});
    } else if (Take(TokenKind::kSlash)) {
      ASSIGN_OR_RETURN(const int right, SignedFactor());
      left = Add({NodeKind::kQuotient}, {left, right});
    } else if (AtUnit()) {
      ASSIGN_OR_RETURN(left, WithUnit(left));
    } else if (BeginsFactor(Now().kind)) {
      ASSIGN_OR_RETURN(const int right, Factor());
      left = Add({NodeKind::kProduct}, {left, right});
    } else {
      return left;
    }
  }
}

absl::StatusOr<int> MathParser::SignedFactor() {
  if (!Take(TokenKind::kMinus)) return Factor();
  ASSIGN_OR_RETURN(const int factor, Factor());
  return Add({NodeKind::kNegate}, {factor});
}

bool MathParser::BeginsFactor(TokenKind kind) const {
  switch (kind) {
    case TokenKind::kLetter:
    case TokenKind::kFunction:
    case TokenKind::kPi:
    case TokenKind::kOpen:
    case TokenKind::kOpenGroup:
    case TokenKind::kFraction:
    case TokenKind::kRoot:
    case TokenKind::kBinomial:
    case TokenKind::kBeginMatrix:
      return true;
    case TokenKind::kBar:
      return bars_ == 0;
    default:
      return false;
  }
}

bool MathParser::AtUnit() const {
  if (brackets_ > 0 || has_symbol_) return false;
  if (Is(TokenKind::kWord) || Is(TokenKind::kCurrency)) return true;
  size_t letters = 0;
  while (After(letters).kind == TokenKind::kLetter) ++letters;
  if (letters < 2) return false;
  const std::string_view symbol(Now().text.data(), letters);
  if (After(letters - 1).text.data() != symbol.data() + letters - 1) return false;  // not side by side
  const TokenKind behind = After(letters).kind;
  return IsUnitSymbol(symbol) && (behind == TokenKind::kEnd || behind == TokenKind::kComma ||
                                  behind == TokenKind::kCaret || behind == TokenKind::kSlash);
}

absl::StatusOr<int> MathParser::WithUnit(int value) {
  if (const std::string_view factor = NumberOfWord(Now().text); !factor.empty()) {
    ++position_;
    return Add({NodeKind::kProduct}, {value, AddNumber(factor)});
  }
  std::string words;
  while (IsUnitPart(Now().kind)) {
    if (Now().after_space && !Is(TokenKind::kCaret) && !words.ends_with('^')) words += ' ';
    words += Now().text;
    ++position_;
  }
  RETURN_IF_ERROR(AddUnit(words));
  return value;
}

absl::Status MathParser::AddUnit(std::string_view words) {
  const std::optional<std::string> unit = UnitOf(words);
  if (!unit) return absl::InvalidArgumentError(absl::StrFormat("goes on with %s", core::Quoted(words)));
  if (!expression_.unit.empty() && expression_.unit != *unit) {
    return absl::InvalidArgumentError(absl::StrFormat("has two units, %s and %s", expression_.unit, *unit));
  }
  expression_.unit = *unit;
  return absl::OkStatus();
}

absl::StatusOr<MathExpression> ParseMath(std::string_view source, CommaReading commas) {
  if (source.size() > kMaxAnswerBytes) {
    return absl::ResourceExhaustedError(absl::StrFormat("is longer than %d bytes", kMaxAnswerBytes));
  }
  ASSIGN_OR_RETURN(std::vector<MathToken> tokens, TokenizeMath(source, commas));
  return MathParser(source, std::move(tokens)).Run();
}

}  // namespace conclave::rl
