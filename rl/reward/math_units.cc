// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_units.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>
#include <vector>

namespace conclave::rl {
namespace {

// Symbol, name.
constexpr std::pair<std::string_view, std::string_view> kSymbols[] = {
    {"cm", "centimeter"}, {"mm", "millimeter"}, {"km", "kilometer"}, {"kg", "kilogram"},   {"mg", "milligram"},
    {"ml", "milliliter"}, {"mL", "milliliter"}, {"ft", "foot"},      {"in", "inch"},       {"yd", "yard"},
    {"mi", "mile"},       {"lb", "pound"},      {"lbs", "pound"},    {"oz", "ounce"},      {"hr", "hour"},
    {"hrs", "hour"},      {"min", "minute"},    {"sec", "second"},   {"mph", "mile/hour"}, {"kph", "kilometer/hour"}};

constexpr std::pair<std::string_view, std::string_view> kIrregular[] = {{"feet", "foot"},
                                                                        {"inches", "inch"},
                                                                        {"metre", "meter"},
                                                                        {"metres", "meter"},
                                                                        {"centimetre", "centimeter"},
                                                                        {"centimetres", "centimeter"},
                                                                        {"kilometre", "kilometer"},
                                                                        {"kilometres", "kilometer"},
                                                                        {"people", "person"},
                                                                        {"children", "child"},
                                                                        {"men", "man"},
                                                                        {"women", "woman"},
                                                                        {"unit", ""},
                                                                        {"units", ""},
                                                                        {"per", "/"},
                                                                        {"sq", "square"}};

// Words that say more about the value than a unit does, or deny it.
constexpr std::string_view kNoUnits[] = {
    "about",   "above",     "all",      "and",     "approximately", "at",         "base",        "below",
    "billion", "but",       "cubed",    "double",  "dozen",         "each",       "eight",       "eighth",
    "eighths", "factorial", "false",    "fifth",   "fifths",        "five",       "four",        "fourth",
    "fourths", "grand",     "half",     "halves",  "hundred",       "hundredth",  "hundredths",  "if",
    "inverse", "is",        "least",    "less",    "maybe",         "million",    "millionth",   "millionths",
    "minus",   "mod",       "modulo",   "more",    "most",          "negative",   "nine",        "ninth",
    "ninths",  "no",        "none",     "not",     "nothing",       "of",         "one",         "or",
    "over",    "pi",        "plus",     "quarter", "quarters",      "root",       "score",       "seven",
    "seventh", "sevenths",  "six",      "sixth",   "sixths",        "squared",    "ten",         "tenth",
    "tenths",  "than",      "third",    "thirds",  "thousand",      "thousandth", "thousandths", "three",
    "times",   "to",        "trillion", "true",    "twelfth",       "twelfths",   "twice",       "two",
    "unless",  "where",     "with",     "without", "wrong",         "zero"};

template <size_t kSize>
std::optional<std::string_view> Find(const std::pair<std::string_view, std::string_view> (&names)[kSize],
                                     std::string_view name) {
  for (const auto& [written, meant] : names) {
    if (written == name) return meant;
  }
  return std::nullopt;
}

std::vector<std::string> Split(std::string_view words) {
  std::vector<std::string> parts;
  bool open = false;
  for (const char c : words) {
    if (c == ' ' || c == '.') {
      open = false;
    } else if (c == '/') {
      parts.emplace_back("/");
      open = false;
    } else {
      if (!open) parts.emplace_back();
      parts.back() += c;
      open = true;
    }
  }
  return parts;
}

bool IsNoUnit(std::string_view word) {
  return std::find(std::begin(kNoUnits), std::end(kNoUnits), word) != std::end(kNoUnits);
}

std::string Singular(const std::string& word) {
  if (const auto name = Find(kSymbols, word)) return std::string(*name);
  std::string lower = word;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (const auto name = Find(kIrregular, lower)) return std::string(*name);
  if (IsNoUnit(lower)) return lower;
  if (lower.size() > 3 && lower.back() == 's' && lower[lower.size() - 2] != 's') lower.pop_back();
  return lower;
}

// "inch^2" as {"inch", "^2"}.
std::pair<std::string, std::string> SplitPower(const std::string& word) {
  const size_t at = std::min(word.find('^'), word.size());
  return {word.substr(0, at), word.substr(at)};
}

bool IsAlphabetic(std::string_view word) {
  return std::all_of(word.begin(), word.end(), [](unsigned char c) { return std::isalpha(c) || c == '-'; });
}

}  // namespace

std::optional<std::string> UnitOf(std::string_view words) {
  std::string unit, power;
  int num_words = 0;
  for (const std::string& part : Split(words)) {
    auto [word, its_power] = SplitPower(part);
    if (word != "/" && (!IsAlphabetic(word) || (!its_power.empty() && its_power != "^2" && its_power != "^3"))) {
      return std::nullopt;
    }
    word = word == "/" ? word : Singular(word);
    if (IsNoUnit(word)) return std::nullopt;
    if (word != "/" && ++num_words > 3) return std::nullopt;
    if (word == "square" || word == "cubic") {
      power = word == "square" ? "^2" : "^3";
      continue;
    }
    if (!unit.empty() && unit.back() != '/' && word != "/" && !word.empty()) unit += ' ';
    unit += word;
    if (word.empty()) continue;
    unit += its_power.empty() ? std::exchange(power, "") : its_power;
  }
  return unit;
}

bool IsUnitSymbol(std::string_view letters) { return Find(kSymbols, letters).has_value(); }

std::string_view NumberOfWord(std::string_view word) {
  if (word == "hundred") return "100";
  if (word == "thousand") return "1000";
  if (word == "million") return "1000000";
  if (word == "billion") return "1000000000";
  if (word == "trillion") return "1000000000000";
  return "";
}

}  // namespace conclave::rl
