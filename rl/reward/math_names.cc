// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_names.h"

#include <algorithm>
#include <iterator>

namespace conclave::rl {
namespace {

using enum TokenKind;

// In the order of `written`.
constexpr MathName kCommands[] = {
    {"Alpha", kLetter, "Alpha"},
    {"Delta", kLetter, "Delta"},
    {"Gamma", kLetter, "Gamma"},
    {"Lambda", kLetter, "Lambda"},
    {"Omega", kLetter, "Omega"},
    {"Phi", kLetter, "Phi"},
    {"Pi", kLetter, "Pi"},
    {"Psi", kLetter, "Psi"},
    {"Sigma", kLetter, "Sigma"},
    {"Theta", kLetter, "Theta"},
    {"alpha", kLetter, "alpha"},
    {"arccos", kFunction, "arccos"},
    {"arcsin", kFunction, "arcsin"},
    {"arctan", kFunction, "arctan"},
    {"ast", kTimes, "*"},
    {"beta", kLetter, "beta"},
    {"binom", kBinomial, "binom"},
    {"cap", kUnion, "cap"},
    {"cdot", kTimes, "*"},
    {"cfrac", kFraction, "frac"},
    {"chi", kLetter, "chi"},
    {"circ", kDegree, "circ"},
    {"colon", kColon, ":"},
    {"cos", kFunction, "cos"},
    {"cosh", kFunction, "cosh"},
    {"cot", kFunction, "cot"},
    {"csc", kFunction, "csc"},
    {"cup", kUnion, "cup"},
    {"dbinom", kBinomial, "binom"},
    {"deg", kDegree, "circ"},
    {"degree", kDegree, "circ"},
    {"delta", kLetter, "delta"},
    {"dfrac", kFraction, "frac"},
    {"div", kSlash, "/"},
    {"ell", kLetter, "ell"},
    {"emptyset", kEmptySet, "emptyset"},
    {"epsilon", kLetter, "epsilon"},
    {"eta", kLetter, "eta"},
    {"exp", kFunction, "exp"},
    {"frac", kFraction, "frac"},
    {"gamma", kLetter, "gamma"},
    {"ge", kRelation, ">="},
    {"geq", kRelation, ">="},
    {"geqslant", kRelation, ">="},
    {"gt", kRelation, ">"},
    {"in", kRelation, "in"},
    {"infty", kInfinity, "infinity"},
    {"kappa", kLetter, "kappa"},
    {"lambda", kLetter, "lambda"},
    {"langle", kOpen, "("},
    {"lbrace", kOpenSet, "{"},
    {"lbrack", kOpen, "["},
    {"lceil", kFunction, "ceil"},
    {"le", kRelation, "<="},
    {"leq", kRelation, "<="},
    {"leqslant", kRelation, "<="},
    {"lfloor", kFunction, "floor"},
    {"lg", kFunction, "lg"},
    {"ln", kFunction, "ln"},
    {"log", kFunction, "log"},
    {"lt", kRelation, "<"},
    {"lvert", kBar, "|"},
    {"mp", kMinusPlus, "mp"},
    {"mu", kLetter, "mu"},
    {"ne", kRelation, "!="},
    {"neq", kRelation, "!="},
    {"nu", kLetter, "nu"},
    {"omega", kLetter, "omega"},
    {"over", kSlash, "/"},
    {"phi", kLetter, "phi"},
    {"pi", kPi, "pi"},
    {"pm", kPlusMinus, "pm"},
    {"prime", kPrime, "'"},
    {"psi", kLetter, "psi"},
    {"rangle", kClose, ")"},
    {"rbrace", kCloseSet, "}"},
    {"rbrack", kClose, "]"},
    {"rceil", kClose, "ceil"},
    {"rfloor", kClose, "floor"},
    {"rho", kLetter, "rho"},
    {"rvert", kBar, "|"},
    {"sec", kFunction, "sec"},
    {"setminus", kUnion, "setminus"},
    {"sigma", kLetter, "sigma"},
    {"sin", kFunction, "sin"},
    {"sinh", kFunction, "sinh"},
    {"sqrt", kRoot, "sqrt"},
    {"tan", kFunction, "tan"},
    {"tanh", kFunction, "tanh"},
    {"tau", kLetter, "tau"},
    {"tbinom", kBinomial, "binom"},
    {"tfrac", kFraction, "frac"},
    {"theta", kLetter, "theta"},
    {"times", kTimes, "*"},
    {"varepsilon", kLetter, "epsilon"},
    {"varnothing", kEmptySet, "emptyset"},
    {"varphi", kLetter, "phi"},
    {"vartheta", kLetter, "theta"},
    {"vert", kBar, "|"},
    {"xi", kLetter, "xi"},
    {"zeta", kLetter, "zeta"},
};

constexpr MathName kWords[] = {
    {"and", kComma, "and"},
    {"arccos", kFunction, "arccos"},
    {"arcsin", kFunction, "arcsin"},
    {"arctan", kFunction, "arctan"},
    {"cos", kFunction, "cos"},
    {"cosh", kFunction, "cosh"},
    {"cot", kFunction, "cot"},
    {"csc", kFunction, "csc"},
    {"deg", kDegree, "circ"},
    {"degree", kDegree, "circ"},
    {"degrees", kDegree, "circ"},
    {"exp", kFunction, "exp"},
    {"inf", kInfinity, "infinity"},
    {"infinity", kInfinity, "infinity"},
    {"ln", kFunction, "ln"},
    {"log", kFunction, "log"},
    {"or", kComma, "or"},
    {"percent", kPercent, "%"},
    {"pi", kPi, "pi"},
    {"sec", kFunction, "sec"},
    {"sin", kFunction, "sin"},
    {"sinh", kFunction, "sinh"},
    {"sqrt", kRoot, "sqrt"},
    {"tan", kFunction, "tan"},
    {"tanh", kFunction, "tanh"},
};

constexpr MathName kSigns[] = {
    {"\xc2\xa2", kWord, "cents"},    // cent
    {"\xc2\xb0", kDegree, "circ"},   // degree
    {"\xc2\xb1", kPlusMinus, "pm"},  // plus or minus
    {"\xc2\xb7", kTimes, "*"},       // middle dot
    {"\xc3\x97", kTimes, "*"},       // multiplication
    {"\xc3\xb7", kSlash, "/"},       // division
    {"\xce\xb1", kLetter, "alpha"},
    {"\xce\xb2", kLetter, "beta"},
    {"\xce\xb8", kLetter, "theta"},
    {"\xce\xbb", kLetter, "lambda"},
    {"\xcf\x80", kPi, "pi"},
    {"\xcf\x86", kLetter, "phi"},
    {"\xe2\x81\x84", kSlash, "/"},  // fraction slash
    {"\xe2\x82\xac", kWord, "euros"},
    {"\xe2\x88\x85", kEmptySet, "emptyset"},
    {"\xe2\x88\x88", kRelation, "in"},
    {"\xe2\x88\x92", kMinus, "-"},
    {"\xe2\x88\x93", kMinusPlus, "mp"},
    {"\xe2\x88\x9a", kRoot, "sqrt"},
    {"\xe2\x88\x9e", kInfinity, "infinity"},
    {"\xe2\x88\xa9", kUnion, "cap"},
    {"\xe2\x88\xaa", kUnion, "cup"},
    {"\xe2\x89\xa0", kRelation, "!="},
    {"\xe2\x89\xa4", kRelation, "<="},
    {"\xe2\x89\xa5", kRelation, ">="},
    {"\xe2\x8b\x85", kTimes, "*"},  // dot operator
    {"\xef\xbc\x8c", kComma, ","},  // full width
};

constexpr std::string_view kLooks[] = {"big",    "bigg",  "biggl", "biggr", "bigl",     "bigr",         "Big",
                                       "Bigg",   "Biggl", "Biggr", "Bigl",  "Bigr",     "displaystyle", "left",
                                       "limits", "qquad", "quad",  "right", "textstyle"};

constexpr std::string_view kFonts[] = {"boldsymbol", "mathbf", "mathit", "mathrm", "mbox",   "operatorname",
                                       "text",       "textbf", "textit", "textrm", "textsf", "mathsf"};

template <size_t kSize>
const MathName* Find(const MathName (&names)[kSize], std::string_view written) {
  const auto found = std::lower_bound(std::begin(names), std::end(names), written,
                                      [](const MathName& name, std::string_view text) { return name.written < text; });
  return found != std::end(names) && found->written == written ? &*found : nullptr;
}

bool Contains(auto& names, std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

constexpr bool BeforeByName(const MathName& a, const MathName& b) { return a.written < b.written; }
static_assert(std::is_sorted(std::begin(kCommands), std::end(kCommands), BeforeByName));
static_assert(std::is_sorted(std::begin(kWords), std::end(kWords), BeforeByName));
static_assert(std::is_sorted(std::begin(kSigns), std::end(kSigns), BeforeByName));

}  // namespace

const MathName* FindCommand(std::string_view name) { return Find(kCommands, name); }
const MathName* FindWord(std::string_view word) { return Find(kWords, word); }
bool IsLooks(std::string_view command) { return Contains(kLooks, command); }
bool IsFont(std::string_view command) { return Contains(kFonts, command); }

const MathName* FindSign(std::string_view bytes) {
  for (const MathName& sign : kSigns) {
    if (bytes.starts_with(sign.written)) return &sign;
  }
  return nullptr;
}

}  // namespace conclave::rl
