// SPDX-License-Identifier: Apache-2.0
// A written answer as tokens: LaTeX, plain text and the usual Unicode signs come out alike, and what only changes the
// looks (\left, \dfrac, spacing, $) is gone. Nothing of it is ever run.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::rl {

enum class TokenKind {
  kNumber,    // its text may hold separators of thousands: "1{,}000"
  kLetter,    // a variable: "x", "theta"
  kWord,      // text that is no mathematics: a unit, a name
  kFunction,  // "sin", "log"; also "abs", "floor"
  kPi,
  kInfinity,
  kEmptySet,
  kPlus,
  kMinus,
  kPlusMinus,
  kMinusPlus,
  kTimes,
  kSlash,
  kCaret,
  kUnderscore,
  kFactorial,
  kPercent,
  kDegree,
  kCurrency,
  kColon,
  kPrime,
  kOpen,  // "(" "["
  kClose,
  kOpenSet,  // "\{"
  kCloseSet,
  kOpenGroup,  // "{", which only groups
  kCloseGroup,
  kBar,
  kComma,     // also ";", "and", "or"
  kRelation,  // "=" "<" ">" "<=" ">=" "!=" "in"
  kUnion,     // "cup" "cap" "setminus"
  kFraction,
  kRoot,
  kBinomial,
  kBeginMatrix,
  kEndMatrix,
  kCell,  // "&"
  kRow,   // "\\"
  kEnd,
};

struct MathToken {
  TokenKind kind;
  std::string_view text;     // of the source, or a name that lives forever
  bool after_space = false;  // white space stands before it
};

enum class CommaReading {
  kThousands,  // 1,000 is one number where no bracket is open
  kSeparator,  // it is the two numbers 1 and 000
};

// The tokens of `source`, which outlives them, and kEnd. An error says what is no mathematics; it has no place.
absl::StatusOr<std::vector<MathToken>> TokenizeMath(std::string_view source, CommaReading commas);

}  // namespace conclave::rl
