// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_token.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "rl/reward/math_names.h"

namespace conclave::rl {
namespace {

constexpr int kMaxSplices = 8;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '~'; }

size_t CountDigits(std::string_view text) { return std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin(); }
size_t CountLetters(std::string_view text) {
  return std::find_if_not(text.begin(), text.end(), IsLetter) - text.begin();
}

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

// Length of what may stand between two groups of digits: "," alone, or a sign that cannot separate a list.
size_t SeparatorLength(std::string_view text, bool plain_comma) {
  for (const std::string_view separator : {",\\!", "{,}", "\\,"}) {
    if (!text.starts_with(separator)) continue;
    size_t length = separator.size();
    while (length < text.size() && text[length] == ' ') ++length;
    return length;
  }
  if (plain_comma && text.starts_with(",")) return 1;
  return 0;
}

// abc, xyz: letters that follow each other are a product, other long words are text.
bool IsProductOfLetters(std::string_view word) {
  for (size_t i = 1; i < word.size(); ++i) {
    if (word[i] != word[i - 1] + 1) return false;
  }
  return true;
}

// Length of the {...} that `text` begins with; 0 if there is none.
size_t BracesLength(std::string_view text) {
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    depth += text[i] == '{';
    depth -= text[i] == '}';
    if (depth == 0) return text[i] == '}' ? i + 1 : 0;
  }
  return 0;
}

class Lexer {
 public:
  Lexer(std::string_view source, CommaReading commas) : commas_(commas), rest_(source) {}

  absl::StatusOr<std::vector<MathToken>> Run() {
    while (!rest_.empty()) RETURN_IF_ERROR(Next());
    Add(TokenKind::kEnd, 0, "");
    return std::move(tokens_);
  }

 private:
  void Add(TokenKind kind, size_t length, std::string_view text) {
    if (kind == TokenKind::kOpen || kind == TokenKind::kOpenSet) ++depth_;
    if (kind == TokenKind::kClose || kind == TokenKind::kCloseSet) --depth_;
    tokens_.push_back({kind, text, after_space_});
    after_space_ = false;
    rest_.remove_prefix(length);
  }

  void Skip(size_t length) {
    after_space_ = true;
    rest_.remove_prefix(length);
  }

  absl::Status Next() {
    const char c = rest_[0];
    if (IsSpace(c)) return Skip(1), absl::OkStatus();
    if (IsDigit(c) || (c == '.' && rest_.size() > 1 && IsDigit(rest_[1]))) return Number();
    if (IsLetter(c)) return Word();
    if (c == '\\') return Backslash();
    if (static_cast<unsigned char>(c) >= 0x80) return UnicodeSign();
    return Sign(c);
  }

  absl::Status Number() {
    const bool plain_comma = commas_ == CommaReading::kThousands && depth_ == 0;
    size_t length = CountDigits(rest_);
    if (length >= 1 && length <= 3 && rest_[0] != '0') {
      while (const size_t separator = SeparatorLength(rest_.substr(length), plain_comma)) {
        if (CountDigits(rest_.substr(length + separator)) != 3) break;
        length += separator + 3;
      }
    }
    if (length < rest_.size() && rest_[length] == '.') {
      const size_t decimals = CountDigits(rest_.substr(length + 1));
      if (decimals > 0) length += 1 + decimals;
    }
    Add(TokenKind::kNumber, length, rest_.substr(0, length));
    return absl::OkStatus();
  }

  absl::Status Word() {
    const std::string_view word = rest_.substr(0, CountLetters(rest_));
    if (const MathName* name = FindWord(word)) return Add(name->kind, word.size(), name->text), absl::OkStatus();
    // What may follow letters directly in plain text, such as the x of "sinx", is not guessed.
    if (word.size() > 2 && !IsProductOfLetters(word)) {
      Add(TokenKind::kWord, word.size(), word);
    } else {
      AddLetters(word);
    }
    return absl::OkStatus();
  }

  // One or two letters are variables, or a unit where the parser expects one.
  void AddLetters(std::string_view word) {
    for (size_t i = 0; i < word.size(); ++i) Add(TokenKind::kLetter, 1, word.substr(i, 1));
  }

  absl::Status Backslash() {
    if (rest_.size() < 2) return absl::InvalidArgumentError("ends with a backslash");
    const char c = rest_[1];
    if (!IsLetter(c)) return EscapedSign(c);
    const std::string_view name = rest_.substr(1, CountLetters(rest_.substr(1)));
    if (IsLooks(name)) {
      Skip(1 + name.size());
      if (name == "left" || name == "right") DropDot();
      return absl::OkStatus();
    }
    if (IsFont(name)) return Font(name);
    if (name == "boxed" || name == "fbox") return Boxed(name);
    if (name == "begin" || name == "end") return Environment(name);
    if (const MathName* command = FindCommand(name)) {
      return Add(command->kind, 1 + name.size(), command->text), absl::OkStatus();
    }
    if (name == "mathbb") return BlackboardLetter();
    return absl::InvalidArgumentError(absl::StrFormat("has the unknown command \\%s", name.substr(0, 30)));
  }

  void DropDot() {
    if (rest_.starts_with(".")) rest_.remove_prefix(1);
  }

  absl::Status EscapedSign(char c) {
    switch (c) {
      case '{':
        return Add(TokenKind::kOpenSet, 2, "{"), absl::OkStatus();
      case '}':
        return Add(TokenKind::kCloseSet, 2, "}"), absl::OkStatus();
      case '%':
        return Add(TokenKind::kPercent, 2, "%"), absl::OkStatus();
      case '$':
        return Add(TokenKind::kCurrency, 2, "dollars"), absl::OkStatus();
      case '\\':
        return Add(TokenKind::kRow, 2, "\\\\"), absl::OkStatus();
      case '|':
        return Add(TokenKind::kBar, 2, "|"), absl::OkStatus();
      case ',':
      case '!':
      case ';':
      case ':':
      case ' ':
      case '\n':
      case '(':
      case ')':
      case '[':
      case ']':
        return Skip(2), absl::OkStatus();  // spaces, and what begins and ends mathematics
      default:
        return absl::InvalidArgumentError(absl::StrFormat("has %s", core::Quoted(rest_.substr(0, 2))));
    }
  }

  // The content of {...} behind a command, and the length of all.
  struct Argument {
    std::string_view content;
    size_t length;
  };
  absl::StatusOr<Argument> ArgumentOf(std::string_view name) const {
    std::string_view after = rest_.substr(1 + name.size());
    while (!after.empty() && IsSpace(after.front())) after.remove_prefix(1);
    const size_t braces = BracesLength(after);
    if (braces == 0) return absl::InvalidArgumentError(absl::StrFormat("has \\%s without {...}", name));
    return Argument{Trimmed(after.substr(1, braces - 2)), static_cast<size_t>(after.data() - rest_.data()) + braces};
  }

  // Text with digits or mathematics in it is read as if it stood outside.
  absl::Status Font(std::string_view name) {
    ASSIGN_OR_RETURN(const Argument argument, ArgumentOf(name));
    const auto& [content, length] = argument;
    if (content.empty()) return Skip(length), absl::OkStatus();
    after_space_ = true;
    if (std::any_of(content.begin(), content.end(), [](char c) { return IsDigit(c) || c == '\\' || c == '$'; })) {
      return Splice(argument);
    }
    if (const MathName* known = FindWord(content)) return Add(known->kind, length, known->text), absl::OkStatus();
    const bool letter = name.starts_with("math") && content.size() == 1 && IsLetter(content[0]);
    Add(letter ? TokenKind::kLetter : TokenKind::kWord, length, content);
    return absl::OkStatus();
  }

  absl::Status Boxed(std::string_view name) {
    ASSIGN_OR_RETURN(const Argument argument, ArgumentOf(name));
    return Splice(argument);
  }

  absl::Status Splice(const Argument& argument) {
    if (splices_ >= kMaxSplices) return absl::ResourceExhaustedError("is nested too deeply");
    Lexer inner(argument.content, depth_ > 0 ? CommaReading::kSeparator : commas_);
    inner.splices_ = splices_ + 1;
    ASSIGN_OR_RETURN(std::vector<MathToken> tokens, inner.Run());
    tokens.pop_back();  // kEnd
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    return Skip(argument.length), absl::OkStatus();
  }

  absl::Status BlackboardLetter() {
    static constexpr std::string_view kSets = "CNQRZ", kForm = "\\mathbb{R}";
    if (rest_.size() < kForm.size() || rest_[7] != '{' || rest_[9] != '}' ||
        kSets.find(rest_[8]) == std::string_view::npos) {
      return absl::InvalidArgumentError("has \\mathbb without one of {C}, {N}, {Q}, {R}, {Z}");
    }
    Add(TokenKind::kLetter, kForm.size(), rest_.substr(0, kForm.size()));
    return absl::OkStatus();
  }

  absl::Status Environment(std::string_view name) {
    const std::string_view after = rest_.substr(1 + name.size());
    const size_t end = after.find('}');
    if (!after.starts_with("{") || end == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("has \\%s without {...}", name));
    }
    const std::string_view what = after.substr(1, end - 1);
    if (what != "pmatrix" && what != "bmatrix" && what != "matrix" && what != "smallmatrix") {
      return absl::InvalidArgumentError(absl::StrFormat("has the environment %s", core::Quoted(what)));
    }
    Add(name == "begin" ? TokenKind::kBeginMatrix : TokenKind::kEndMatrix, 1 + name.size() + end + 1, what);
    return absl::OkStatus();
  }

  absl::Status UnicodeSign() {
    static constexpr std::string_view kSquared = "\xc2\xb2", kCubed = "\xc2\xb3", kNoBreakSpace = "\xc2\xa0";
    if (rest_.starts_with(kNoBreakSpace)) return Skip(2), absl::OkStatus();
    if (rest_.starts_with(kSquared) || rest_.starts_with(kCubed)) {
      const bool squared = rest_.starts_with(kSquared);
      Add(TokenKind::kCaret, 0, "^");
      return Add(TokenKind::kNumber, 2, squared ? "2" : "3"), absl::OkStatus();
    }
    const MathName* sign = FindSign(rest_);
    if (sign == nullptr) return absl::InvalidArgumentError(absl::StrFormat("has %s", core::Quoted(rest_.substr(0, 4))));
    return Add(sign->kind, sign->written.size(), sign->text), absl::OkStatus();
  }

  absl::Status Sign(char c) {
    using enum TokenKind;
    static constexpr struct {
      char c;
      TokenKind kind;
      std::string_view text;
    } kSigns[] = {{'+', kPlus, "+"},      {'-', kMinus, "-"},      {'*', kTimes, "*"},     {'/', kSlash, "/"},
                  {'^', kCaret, "^"},     {'_', kUnderscore, "_"}, {'(', kOpen, "("},      {')', kClose, ")"},
                  {'[', kOpen, "["},      {']', kClose, "]"},      {'{', kOpenGroup, "{"}, {'}', kCloseGroup, "}"},
                  {'|', kBar, "|"},       {',', kComma, ","},      {';', kComma, ","},     {'=', kRelation, "="},
                  {'!', kFactorial, "!"}, {'%', kPercent, "%"},    {':', kColon, ":"},     {'&', kCell, "&"},
                  {'<', kRelation, "<"},  {'>', kRelation, ">"},   {'\'', kPrime, "'"}};
    if (rest_.starts_with("<=")) return Add(kRelation, 2, "<="), absl::OkStatus();
    if (rest_.starts_with(">=")) return Add(kRelation, 2, ">="), absl::OkStatus();
    if (rest_.starts_with("!=")) return Add(kRelation, 2, "!="), absl::OkStatus();
    if (rest_.starts_with("**")) return Add(kCaret, 2, "^"), absl::OkStatus();
    if (c == '$') return Dollar();
    if (c == '.' && Trimmed(rest_.substr(1)).empty()) return Skip(1), absl::OkStatus();  // ends a sentence
    for (const auto& sign : kSigns) {
      if (sign.c == c) return Add(sign.kind, 1, sign.text), absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrFormat("has %s", core::Quoted(rest_.substr(0, 1))));
  }

  // A pair of them holds mathematics, a single one is a currency.
  absl::Status Dollar() {
    const bool opens = !in_dollars_ && rest_.find('$', 1) != std::string_view::npos;
    if (!opens && !in_dollars_) return Add(TokenKind::kCurrency, 1, "dollars"), absl::OkStatus();
    in_dollars_ = opens;
    return Skip(1), absl::OkStatus();
  }

  const CommaReading commas_;
  std::string_view rest_;
  std::vector<MathToken> tokens_;
  int depth_ = 0;    // of brackets, within which commas separate
  int splices_ = 0;  // texts in texts that this one stands in
  bool after_space_ = false, in_dollars_ = false;
};

}  // namespace

absl::StatusOr<std::vector<MathToken>> TokenizeMath(std::string_view source, CommaReading commas) {
  return Lexer(source, commas).Run();
}

}  // namespace conclave::rl
