// SPDX-License-Identifier: Apache-2.0
// The grammar of written answers: one method for each rule, the rule above it. math_parser.cc has the rules down to
// products, math_factors.cc those of factors.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "rl/reward/math_expression.h"
#include "rl/reward/math_token.h"

namespace conclave::rl {

class MathParser {
 public:
  // The tokens are those of `source`.
  MathParser(std::string_view source, std::vector<MathToken> tokens);

  // Once.
  absl::StatusOr<MathExpression> Run();

 private:
  using NodeOr = absl::StatusOr<int>;

  NodeOr List();           // item , item ...
  NodeOr Item();           // words | set_expression [relation set_expression] ...
  NodeOr Words();          // word ... [relation set_expression]
  NodeOr SetExpression();  // sum [cup sum] ... [: sum] ...
  NodeOr Sum();            // signed_term [+- signed_term] ...
  NodeOr SignedTerm();     // [+-] product
  NodeOr Product();        // [$] factor [[* or /] factor] ... [unit]
  NodeOr SignedFactor();   // [-] factor
  NodeOr Factor();         // primary [! or % or degree or ^ exponent] ...
  NodeOr Raised(int base);
  NodeOr Primary();  // number | letter | function | \frac | \sqrt | bracket | matrix ...
  NodeOr PrimaryOf(const MathToken& token);
  NodeOr Number(const MathToken& token);  // number [_ base] | integer fraction
  NodeOr MixedNumber(int whole, int fraction);
  NodeOr BasedNumber(int number);
  NodeOr Letter(const MathToken& token);  // letter [_ index]['] ...
  NodeOr Argument();                      // {...} | digit | letter
  NodeOr TwoArguments(NodeKind kind);
  NodeOr Root();                           // \sqrt [index] argument
  NodeOr Function(std::string_view name);  // sin [^ power] argument
  NodeOr FunctionArgument();
  NodeOr Floor(std::string_view name);
  NodeOr Bracket(std::string_view open);  // ( list ) | [ list ] | ( list ]
  NodeOr Group();                         // { set_expression }
  NodeOr Set();                           // \{ list \}
  NodeOr Absolute();                      // | sum |
  NodeOr Matrix();                        // \begin{pmatrix} sum & sum \\\\ ... \end{pmatrix}

  // Degrees of a whole answer are its unit; elsewhere they are a factor.
  NodeOr WithoutDegrees(int value);
  // At words, or letters that are a unit, up to the end of the item, behind a number.
  bool AtUnit() const;
  NodeOr WithUnit(int value);
  absl::Status AddUnit(std::string_view words);
  // What a product may go on with without a sign. Two numbers side by side are nobody's product.
  bool BeginsFactor(TokenKind kind) const;
  // \frac{4}{5}, \frac45: behind an integer they make a mixed number.
  bool IsFractionOfIntegers() const;

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
  absl::Status Unexpected() const;
  static bool IsInteger(const MathToken& token) {
    return token.kind == TokenKind::kNumber && token.text.find_first_not_of("0123456789") == std::string_view::npos;
  }
  // False for names that a table has: they lie elsewhere.
  bool IsInSource(const MathToken& token) const {
    return token.text.data() >= source_.data() && token.text.data() < source_.data() + source_.size();
  }

  // ---- Nodes ----
  int Add(MathNode node, std::initializer_list<int> children = {});
  int AddNumber(std::string_view digits) { return Add({.kind = NodeKind::kNumber, .text = digits}); }
  void Append(int parent, int& last, int child);
  MathNode& At(int node) { return expression_.nodes[static_cast<size_t>(node)]; }

  const std::string_view source_;
  std::vector<MathToken> tokens_;
  size_t position_ = 0;
  MathExpression expression_;
  int depth_ = 0, brackets_ = 0, bars_ = 0;
  bool has_symbol_ = false;  // a variable in the item so far: what follows is no unit
};

}  // namespace conclave::rl
