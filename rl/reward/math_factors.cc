// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_grammar.h"

#include <optional>
#include <string>

#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "rl/reward/math_parser.h"

namespace conclave::rl {
namespace {

// FNV-1a, 64 bits.
uint64_t SymbolOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

absl::StatusOr<int> MathParser::Factor() {
  ASSIGN_OR_RETURN(int base, Primary());
  while (true) {
    if (Take(TokenKind::kFactorial)) {
      base = Add({NodeKind::kFactorial}, {base});
    } else if (Take(TokenKind::kPercent)) {
      base = Add({NodeKind::kPercent}, {base});
    } else if (Take(TokenKind::kDegree)) {
      base = Add({NodeKind::kDegree}, {base});
    } else if (Take(TokenKind::kCaret)) {
      ASSIGN_OR_RETURN(base, Raised(base));
    } else {
      return base;
    }
  }
}

absl::StatusOr<int> MathParser::Raised(int base) {
  if (Take(TokenKind::kDegree)) return Add({NodeKind::kDegree}, {base});
  if (Is(TokenKind::kOpenGroup) && After(1).kind == TokenKind::kDegree && After(2).kind == TokenKind::kCloseGroup) {
    position_ += 3;
    return Add({NodeKind::kDegree}, {base});
  }
  const bool negative = Take(TokenKind::kMinus);
  ASSIGN_OR_RETURN(int exponent, Primary());
  if (negative) exponent = Add({NodeKind::kNegate}, {exponent});
  if (Take(TokenKind::kCaret)) {  // a^b^c = a^(b^c)
    ASSIGN_OR_RETURN(exponent, Raised(exponent));
  }
  return Add({NodeKind::kPower}, {base, exponent});
}

absl::StatusOr<int> MathParser::Primary() {
  if (++depth_ > kMaxAnswerDepth) return absl::ResourceExhaustedError("is nested too deeply");
  const MathToken token = Now();
  ++position_;
  NodeOr primary = PrimaryOf(token);
  --depth_;
  return primary;
}

absl::StatusOr<int> MathParser::PrimaryOf(const MathToken& token) {
  switch (token.kind) {
    case TokenKind::kNumber:
      return Number(token);
    case TokenKind::kLetter:
      return Letter(token);
    case TokenKind::kPi:
      return Add({NodeKind::kPi});
    case TokenKind::kInfinity:
      return Add({NodeKind::kInfinity});
    case TokenKind::kEmptySet:
      return Add({NodeKind::kEmptySet});
    case TokenKind::kFunction:
      return Function(token.text);
    case TokenKind::kFraction:
      return TwoArguments(NodeKind::kQuotient);
    case TokenKind::kBinomial:
      return TwoArguments(NodeKind::kBinomial);
    case TokenKind::kRoot:
      return Root();
    case TokenKind::kOpen:
      return Bracket(token.text);
    case TokenKind::kOpenGroup:
      return Group();
    case TokenKind::kOpenSet:
      return Set();
    case TokenKind::kBar:
      return Absolute();
    case TokenKind::kBeginMatrix:
      return Matrix();
    default:
      --position_;
      return Unexpected();
  }
}

absl::StatusOr<int> MathParser::Number(const MathToken& token) {
  if (token.text.find(',') != std::string_view::npos) expression_.ambiguous_comma = true;
  const int number = AddNumber(token.text);
  if (Is(TokenKind::kUnderscore)) return BasedNumber(number);
  if (!IsInteger(token)) return number;
  if (Is(TokenKind::kFraction) && IsFractionOfIntegers()) {
    ++position_;
    ASSIGN_OR_RETURN(const int fraction, TwoArguments(NodeKind::kQuotient));
    return MixedNumber(number, fraction);
  }
  const bool plain = Now().after_space && IsInteger(Now()) && After(1).kind == TokenKind::kSlash && IsInteger(After(2));
  if (!plain) return number;
  const int over = AddNumber(Now().text), under = AddNumber(After(2).text);
  position_ += 3;
  return MixedNumber(number, Add({NodeKind::kQuotient}, {over, under}));
}

// 1 3/2 may be meant as a product.
absl::StatusOr<int> MathParser::MixedNumber(int whole, int fraction) {
  const std::string_view over = At(At(fraction).first).text, under = At(At(At(fraction).first).next).text;
  if (over.size() > under.size() || (over.size() == under.size() && over >= under)) {
    return absl::InvalidArgumentError("has a number beside an improper fraction");
  }
  return Add({NodeKind::kSum}, {whole, fraction});
}

bool MathParser::IsFractionOfIntegers() const {
  const auto group_at = [&](size_t at) {
    return After(at).kind == TokenKind::kOpenGroup && IsInteger(After(at + 1)) &&
           After(at + 2).kind == TokenKind::kCloseGroup;
  };
  if (group_at(1)) return group_at(4) || IsInteger(After(4));
  return IsInteger(After(1)) && (After(1).text.size() == 2 || group_at(2) || IsInteger(After(2)));
}

absl::StatusOr<int> MathParser::BasedNumber(int number) {
  ++position_;
  const bool group = Take(TokenKind::kOpenGroup);
  if (!IsInteger(Now()) || Now().text.size() > 2) return Unexpected();
  uint64_t base = 0;
  for (const char c : Now().text) base = base * 10 + static_cast<uint64_t>(c - '0');
  ++position_;
  if (group) RETURN_IF_ERROR(Expect(TokenKind::kCloseGroup));
  At(number).kind = NodeKind::kBasedNumber;
  At(number).symbol = base;
  return number;
}

absl::StatusOr<int> MathParser::Letter(const MathToken& token) {
  std::string name(token.text);
  if (Take(TokenKind::kUnderscore)) {
    name += '_';
    if (Take(TokenKind::kOpenGroup)) {
      while (!Is(TokenKind::kCloseGroup) && !Is(TokenKind::kEnd)) name += Now().text, ++position_;
      RETURN_IF_ERROR(Expect(TokenKind::kCloseGroup));
    } else if (Is(TokenKind::kLetter) || Is(TokenKind::kNumber)) {
      name += Now().text, ++position_;
    } else {
      return Unexpected();
    }
  }
  while (Take(TokenKind::kPrime)) name += '\'';
  if (name == "e") return Add({NodeKind::kEuler});
  if (name == "i") return Add({NodeKind::kImaginary});
  has_symbol_ = true;
  return Add({.kind = NodeKind::kSymbol, .text = token.text, .symbol = SymbolOf(name)});
}

// {...}, or one digit or letter, as in \frac12.
absl::StatusOr<int> MathParser::Argument() {
  if (!IsInteger(Now())) return Primary();
  if (Now().text.size() == 1) {
    const int digit = AddNumber(Now().text);
    ++position_;
    return digit;
  }
  return absl::InvalidArgumentError("has an argument without braces");
}

absl::StatusOr<int> MathParser::TwoArguments(NodeKind kind) {
  if (IsInteger(Now()) && Now().text.size() == 2) {  // \frac12
    const int over = AddNumber(Now().text.substr(0, 1));
    const int under = AddNumber(Now().text.substr(1));
    ++position_;
    return Add({kind}, {over, under});
  }
  ASSIGN_OR_RETURN(const int first, Argument());
  ASSIGN_OR_RETURN(const int second, Argument());
  return Add({kind}, {first, second});
}

absl::StatusOr<int> MathParser::Root() {
  int index = -1;
  if (Is(TokenKind::kOpen) && Now().text == "[") {
    ++position_;
    ASSIGN_OR_RETURN(index, SetExpression());
    RETURN_IF_ERROR(Expect(TokenKind::kClose));
  }
  ASSIGN_OR_RETURN(const int radicand, Argument());
  return index < 0 ? Add({NodeKind::kRoot}, {radicand}) : Add({NodeKind::kRoot}, {radicand, index});
}

absl::StatusOr<int> MathParser::Function(std::string_view name) {
  if (name == "floor" || name == "ceil") return Floor(name);
  int base = -1, power = -1;
  if (Take(TokenKind::kUnderscore)) {
    ASSIGN_OR_RETURN(base, Argument());
    if (name != "log") return absl::InvalidArgumentError(absl::StrFormat("has a base of %s", name));
  }
  if (Take(TokenKind::kCaret)) {
    ASSIGN_OR_RETURN(power, Argument());
    if (At(power).kind != NodeKind::kNumber) return absl::InvalidArgumentError("has an inverse function");
  }
  ASSIGN_OR_RETURN(const int argument, FunctionArgument());
  const int call = base < 0 ? Add({.kind = NodeKind::kFunction, .text = name}, {argument})
                            : Add({.kind = NodeKind::kFunction, .text = name}, {argument, base});
  return power < 0 ? call : Add({NodeKind::kPower}, {call, power});
}

// One bracket, or the product up to the next function or sign: sin 2x cos x.
absl::StatusOr<int> MathParser::FunctionArgument() {
  if (Is(TokenKind::kOpen) || Is(TokenKind::kOpenGroup) || Is(TokenKind::kBar)) return Primary();
  ASSIGN_OR_RETURN(int argument, Factor());
  while (BeginsFactor(Now().kind) && !Is(TokenKind::kFunction) && !Is(TokenKind::kOpen) && !Is(TokenKind::kBar)) {
    ASSIGN_OR_RETURN(const int factor, Factor());
    argument = Add({NodeKind::kProduct}, {argument, factor});
  }
  return argument;
}

absl::StatusOr<int> MathParser::Floor(std::string_view name) {
  ++brackets_;
  ASSIGN_OR_RETURN(const int argument, SetExpression());
  if (!Is(TokenKind::kClose) || Now().text != name) return Unexpected();
  ++position_, --brackets_;
  return Add({.kind = NodeKind::kFunction, .text = name}, {argument});
}

absl::StatusOr<int> MathParser::Bracket(std::string_view open) {
  ++brackets_;
  const int bars = std::exchange(bars_, 0);
  ASSIGN_OR_RETURN(const int content, List());
  if (!Is(TokenKind::kClose)) return Unexpected();
  const std::string_view close = Now().text;
  ++position_, --brackets_;
  bars_ = bars;
  const bool matches = (open == "(") == (close == ")");
  if (At(content).kind != NodeKind::kList) {
    if (open == "(" && matches) return content;
    return absl::InvalidArgumentError("has a single value in brackets");
  }
  At(content).kind = NodeKind::kTuple;
  At(content).text = open == "(" ? (matches ? "()" : "(]") : (matches ? "[]" : "[)");
  return content;
}

absl::StatusOr<int> MathParser::Group() {
  const int bars = std::exchange(bars_, 0);
  ASSIGN_OR_RETURN(const int content, SetExpression());
  RETURN_IF_ERROR(Expect(TokenKind::kCloseGroup));
  bars_ = bars;
  return content;
}

absl::StatusOr<int> MathParser::Set() {
  if (Take(TokenKind::kCloseSet)) return Add({NodeKind::kEmptySet});
  ++brackets_;
  ASSIGN_OR_RETURN(const int content, List());
  RETURN_IF_ERROR(Expect(TokenKind::kCloseSet));
  --brackets_;
  if (At(content).kind != NodeKind::kList) return Add({NodeKind::kSet}, {content});
  At(content).kind = NodeKind::kSet;
  return content;
}

absl::StatusOr<int> MathParser::Absolute() {
  ++bars_, ++brackets_;
  ASSIGN_OR_RETURN(const int content, Sum());
  RETURN_IF_ERROR(Expect(TokenKind::kBar));
  --bars_, --brackets_;
  return Add({.kind = NodeKind::kFunction, .text = "abs"}, {content});
}

absl::StatusOr<int> MathParser::Matrix() {
  ++brackets_;
  const int matrix = Add({NodeKind::kMatrix});
  int last_row = -1;
  while (!Is(TokenKind::kEndMatrix)) {
    const int row = Add({NodeKind::kRow});
    Append(matrix, last_row, row);
    int last_cell = -1;
    do {
      ASSIGN_OR_RETURN(const int cell, Sum());
      Append(row, last_cell, cell);
    } while (Take(TokenKind::kCell));
    if (!Take(TokenKind::kRow) && !Is(TokenKind::kEndMatrix)) return Unexpected();
  }
  ++position_, --brackets_;
  return matrix;
}

}  // namespace conclave::rl
