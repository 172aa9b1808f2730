// SPDX-License-Identifier: Apache-2.0
// The value of an algebraic expression, without ever growing: residues modulo two primes at two points each, where
// every variable, and pi and e, which satisfy no equation with rational coefficients, have fixed pseudo-random values.
// Two rational functions with equal residues are equal but for a chance of about degree / 2^61 at each point and prime.
// i is a root of -1 modulo the prime. While a constant is a fraction of 64-bit integers, it is kept as well, and exact.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"

#include "rl/reward/math_expression.h"

namespace conclave::rl {

struct Fraction {
  int64_t numerator = 0, denominator = 1;  // in lowest terms, denominator > 0

  friend bool operator==(const Fraction&, const Fraction&) = default;
};

struct AlgebraicValue {
  static constexpr size_t kNumResidues = 4;  // [prime, point]

  std::array<uint64_t, kNumResidues> residues = {};
  std::optional<Fraction> fraction;  // the exact value, if it is known to fit

  bool IsZero() const { return fraction ? fraction->numerator == 0 : residues == decltype(residues){}; }
};

// Unimplemented: not algebraic (a root, a logarithm, an object that is no number): see math_numeric.h. Invalid
// argument: a division by zero. Resource exhausted: an exponent beyond the budget.
absl::StatusOr<AlgebraicValue> EvaluateAlgebraic(MathPart part);

bool AreEqual(const AlgebraicValue& a, const AlgebraicValue& b);
// Whether a = c b with a constant c that is not zero.
bool AreProportional(const AlgebraicValue& a, const AlgebraicValue& b);
AlgebraicValue Difference(const AlgebraicValue& a, const AlgebraicValue& b);

}  // namespace conclave::rl
