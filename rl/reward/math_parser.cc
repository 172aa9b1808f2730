// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_parser.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "rl/reward/math_units.h"

namespace conclave::rl {
namespace {

using NodeOr = absl::StatusOr<int>;

bool IsInteger(const MathToken& token) {
  return token.kind == TokenKind::kNumber && token.text.find_first_not_of("0123456789") == std::string_view::npos;
}

// FNV-1a, 64 bits.
uint64_t SymbolOf(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

class Parser {
 public:
  explicit Parser(std::vector<MathToken> tokens) : tokens_(std::move(tokens)) {
    expression_.nodes.reserve(tokens_.size() + 8);
  }

  absl::StatusOr<MathExpression> Run() {
    if (Is(TokenKind::kEnd)) return absl::InvalidArgumentError("is empty");
    ASSIGN_OR_RETURN(expression_.root, List());
    if (!Is(TokenKind::kEnd)) return Unexpected();
    return std::move(expression_);
  }

 private:
  // ---- Tokens ----
  const MathToken& Now() const { return tokens_[position_]; }
  const MathToken& After(size_t steps) const { return tokens_[std::min(position_ + steps, tokens_.size() - 1)]; }
  bool Is(TokenKind kind) const { return Now().kind == kind; }
  bool Take(TokenKind kind) {
    if (!Is(kind)) return false;
    ++position_;
    return true;
  }
  absl::Status Expect(TokenKind kind) { return Take(kind) ? absl::OkStatus() : Unexpected(); }
  absl::Status Unexpected() const {
    if (Is(TokenKind::kEnd)) return absl::InvalidArgumentError("ends too early");
    return absl::InvalidArgumentError(absl::StrFormat("is not understood at %s", core::Quoted(Now().text)));
  }

  // ---- Nodes ----
  int Add(MathNode node, std::initializer_list<int> children = {}) {
    expression_.nodes.push_back(node);
    const int added = static_cast<int>(expression_.nodes.size()) - 1;
    int last = -1;
    for (const int child : children) Append(added, last, child);
    return added;
  }
  MathNode& At(int node) { return expression_.nodes[static_cast<size_t>(node)]; }
  void Append(int parent, int& last, int child) {
    (last < 0 ? At(parent).first : At(last).next) = child;
    last = child;
  }

  // ---- Lists, relations, sets ----
  NodeOr List() {
    ASSIGN_OR_RETURN(const int first, Item());
    if (!Is(TokenKind::kComma)) return first;
    const int list = Add({NodeKind::kList});
    int last = -1;
    Append(list, last, first);
    while (Take(TokenKind::kComma)) {
      while (Take(TokenKind::kComma)) {  // "1, 2, and 3"
      }
      ASSIGN_OR_RETURN(const int item, Item());
      Append(list, last, item);
    }
    return list;
  }

  NodeOr Item() {
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

  // Degrees of a whole answer are its unit; elsewhere they are a factor.
  NodeOr WithoutDegrees(int value) {
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
  NodeOr Words() {
    const char* const begin = Now().text.data();
    const char* end = begin;
    while (Is(TokenKind::kWord) || Is(TokenKind::kLetter) || Is(TokenKind::kMinus)) {
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

  NodeOr SetExpression() {
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

  // ---- Sums and products ----
  static std::optional<NodeKind> SignOf(TokenKind kind) {
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

  NodeOr Sum() {
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

  NodeOr SignedTerm() {
    const std::optional<NodeKind> sign = SignOf(Now().kind);
    if (!sign) return Product();
    ++position_;
    if (SignOf(Now().kind)) return Unexpected();  // "--1"
    ASSIGN_OR_RETURN(const int term, Product());
    return *sign == NodeKind::kSum ? term : Add({*sign}, {term});
  }

  NodeOr Product() {
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

  NodeOr SignedFactor() {
    if (!Take(TokenKind::kMinus)) return Factor();
    ASSIGN_OR_RETURN(const int factor, Factor());
    return Add({NodeKind::kNegate}, {factor});
  }

  // What a product may go on with without a sign. Two numbers side by side are nobody's product.
  bool BeginsFactor(TokenKind kind) const {
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

  // ---- Units ----
  // At words, or letters that are a unit, up to the end of the item, behind a number.
  bool AtUnit() const {
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

  NodeOr WithUnit(int value) {
    if (const std::string_view factor = NumberOfWord(Now().text); !factor.empty()) {
      ++position_;
      return Add({NodeKind::kProduct}, {value, Add({.kind = NodeKind::kNumber, .text = factor})});
    }
    std::string words;
    while (!Is(TokenKind::kEnd) && !Is(TokenKind::kComma)) {
      if (Now().after_space && !Is(TokenKind::kCaret) && !words.ends_with('^')) words += ' ';
      words += Now().text;
      ++position_;
    }
    RETURN_IF_ERROR(AddUnit(words));
    return value;
  }

  absl::Status AddUnit(std::string_view words) {
    const std::optional<std::string> unit = UnitOf(words);
    if (!unit) return absl::InvalidArgumentError(absl::StrFormat("goes on with %s", core::Quoted(words)));
    if (!expression_.unit.empty() && expression_.unit != *unit) {
      return absl::InvalidArgumentError(absl::StrFormat("has two units, %s and %s", expression_.unit, *unit));
    }
    expression_.unit = *unit;
    return absl::OkStatus();
  }

  // ---- Factors ----
  NodeOr Factor() {
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

  NodeOr Raised(int base) {
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

  NodeOr Primary() {
    if (++depth_ > kMaxAnswerDepth) return absl::ResourceExhaustedError("is nested too deeply");
    const MathToken token = Now();
    ++position_;
    NodeOr primary = PrimaryOf(token);
    --depth_;
    return primary;
  }

  NodeOr PrimaryOf(const MathToken& token) {
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

  NodeOr Number(const MathToken& token) {
    if (token.text.find(',') != std::string_view::npos) expression_.ambiguous_comma = true;
    const int number = Add({.kind = NodeKind::kNumber, .text = token.text});
    if (Is(TokenKind::kUnderscore)) return BasedNumber(number);
    if (!IsInteger(token)) return number;
    if (Is(TokenKind::kFraction) && IsFractionOfIntegers()) {
      ++position_;
      ASSIGN_OR_RETURN(const int fraction, TwoArguments(NodeKind::kQuotient));
      return Add({NodeKind::kSum}, {number, fraction});
    }
    const bool plain =
        Now().after_space && IsInteger(Now()) && After(1).kind == TokenKind::kSlash && IsInteger(After(2));
    if (!plain) return number;
    const int over = Add({.kind = NodeKind::kNumber, .text = Now().text});
    const int under = Add({.kind = NodeKind::kNumber, .text = After(2).text});
    position_ += 3;
    return Add({NodeKind::kSum}, {number, Add({NodeKind::kQuotient}, {over, under})});
  }

  // \frac{4}{5}, \frac45: behind an integer they make a mixed number.
  bool IsFractionOfIntegers() const {
    const auto group_at = [&](size_t at) {
      return After(at).kind == TokenKind::kOpenGroup && IsInteger(After(at + 1)) &&
             After(at + 2).kind == TokenKind::kCloseGroup;
    };
    if (group_at(1)) return group_at(4) || IsInteger(After(4));
    return IsInteger(After(1)) && (After(1).text.size() == 2 || group_at(2) || IsInteger(After(2)));
  }

  NodeOr BasedNumber(int number) {
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

  NodeOr Letter(const MathToken& token) {
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
  NodeOr Argument() {
    if (!IsInteger(Now())) return Primary();
    if (Now().text.size() == 1) {
      const int digit = Add({.kind = NodeKind::kNumber, .text = Now().text});
      ++position_;
      return digit;
    }
    return absl::InvalidArgumentError("has an argument without braces");
  }

  NodeOr TwoArguments(NodeKind kind) {
    if (IsInteger(Now()) && Now().text.size() == 2) {  // \frac12
      const int over = Add({.kind = NodeKind::kNumber, .text = Now().text.substr(0, 1)});
      const int under = Add({.kind = NodeKind::kNumber, .text = Now().text.substr(1)});
      ++position_;
      return Add({kind}, {over, under});
    }
    ASSIGN_OR_RETURN(const int first, Argument());
    ASSIGN_OR_RETURN(const int second, Argument());
    return Add({kind}, {first, second});
  }

  NodeOr Root() {
    int index = -1;
    if (Is(TokenKind::kOpen) && Now().text == "[") {
      ++position_;
      ASSIGN_OR_RETURN(index, SetExpression());
      RETURN_IF_ERROR(Expect(TokenKind::kClose));
    }
    ASSIGN_OR_RETURN(const int radicand, Argument());
    return index < 0 ? Add({NodeKind::kRoot}, {radicand}) : Add({NodeKind::kRoot}, {radicand, index});
  }

  NodeOr Function(std::string_view name) {
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
  NodeOr FunctionArgument() {
    if (Is(TokenKind::kOpen) || Is(TokenKind::kOpenGroup) || Is(TokenKind::kBar)) return Primary();
    ASSIGN_OR_RETURN(int argument, Factor());
    while (BeginsFactor(Now().kind) && !Is(TokenKind::kFunction) && !Is(TokenKind::kOpen) && !Is(TokenKind::kBar)) {
      ASSIGN_OR_RETURN(const int factor, Factor());
      argument = Add({NodeKind::kProduct}, {argument, factor});
    }
    return argument;
  }

  NodeOr Floor(std::string_view name) {
    ++brackets_;
    ASSIGN_OR_RETURN(const int argument, SetExpression());
    if (!Is(TokenKind::kClose) || Now().text != name) return Unexpected();
    ++position_, --brackets_;
    return Add({.kind = NodeKind::kFunction, .text = name}, {argument});
  }

  // ---- Brackets ----
  NodeOr Bracket(std::string_view open) {
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

  NodeOr Group() {
    const int bars = std::exchange(bars_, 0);
    ASSIGN_OR_RETURN(const int content, SetExpression());
    RETURN_IF_ERROR(Expect(TokenKind::kCloseGroup));
    bars_ = bars;
    return content;
  }

  NodeOr Set() {
    if (Take(TokenKind::kCloseSet)) return Add({NodeKind::kEmptySet});
    ++brackets_;
    ASSIGN_OR_RETURN(const int content, List());
    RETURN_IF_ERROR(Expect(TokenKind::kCloseSet));
    --brackets_;
    if (At(content).kind != NodeKind::kList) return Add({NodeKind::kSet}, {content});
    At(content).kind = NodeKind::kSet;
    return content;
  }

  NodeOr Absolute() {
    ++bars_, ++brackets_;
    ASSIGN_OR_RETURN(const int content, Sum());
    RETURN_IF_ERROR(Expect(TokenKind::kBar));
    --bars_, --brackets_;
    return Add({.kind = NodeKind::kFunction, .text = "abs"}, {content});
  }

  NodeOr Matrix() {
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

  std::vector<MathToken> tokens_;
  size_t position_ = 0;
  MathExpression expression_;
  int depth_ = 0, brackets_ = 0, bars_ = 0;
  bool has_symbol_ = false;  // a variable in the item so far: what follows is no unit
};

}  // namespace

absl::StatusOr<MathExpression> ParseMath(std::string_view source, CommaReading commas) {
  if (source.size() > kMaxAnswerBytes) {
    return absl::ResourceExhaustedError(absl::StrFormat("is longer than %d bytes", kMaxAnswerBytes));
  }
  ASSIGN_OR_RETURN(std::vector<MathToken> tokens, TokenizeMath(source, commas));
  return Parser(std::move(tokens)).Run();
}

}  // namespace conclave::rl
