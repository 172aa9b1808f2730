// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_value.h"

#include <iterator>
#include <utility>

#include "core/base/rng.h"
#include "core/base/status_macros.h"

namespace conclave::rl {
namespace {

using Residues = std::array<uint64_t, AlgebraicValue::kNumResidues>;
using Wide = unsigned __int128;

// The two greatest primes 2^61 - offset with a root of -1 (they are 1 modulo 4), and that root.
struct Prime {
  uint64_t offset, imaginary;
  constexpr uint64_t value() const { return (uint64_t{1} << 61) - offset; }
};
constexpr Prime kPrimes[] = {{31, 583529827753931384}, {259, 966685122347009555}};
constexpr size_t kPoints = AlgebraicValue::kNumResidues / std::size(kPrimes);
constexpr uint64_t kPiSymbol = 1, kEulerSymbol = 2;
constexpr int64_t kMaxExponent = 1'000'000, kMaxFactorial = 100;

constexpr const Prime& PrimeOf(size_t residue) { return kPrimes[residue / kPoints]; }

// 2^61 is the offset modulo the prime, so what lies above 61 bits is folded down; dividing would take ten times as
// long.
uint64_t Times(uint64_t a, uint64_t b, const Prime& prime) {
  constexpr uint64_t kLow = (uint64_t{1} << 61) - 1;
  const Wide product = Wide{a} * b;                                                              // < 2^122
  const Wide folded = (product >> 61) * prime.offset + (static_cast<uint64_t>(product) & kLow);  // < 2^70
  const uint64_t rest = static_cast<uint64_t>(folded >> 61) * prime.offset + (static_cast<uint64_t>(folded) & kLow);
  return rest >= prime.value() ? rest - prime.value() : rest;
}

uint64_t Power(uint64_t base, uint64_t exponent, const Prime& prime) {
  uint64_t power = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) power = Times(power, base, prime);
    base = Times(base, base, prime);
  }
  return power;
}

uint64_t Inverse(uint64_t a, const Prime& prime) { return Power(a, prime.value() - 2, prime); }

uint64_t OfSigned(int64_t value, uint64_t prime) {
  const int64_t rest = value % static_cast<int64_t>(prime);
  return static_cast<uint64_t>(rest < 0 ? rest + static_cast<int64_t>(prime) : rest);
}

// In lowest terms, if both fit.
std::optional<Fraction> MakeFraction(__int128 numerator, __int128 denominator) {
  if (denominator < 0) numerator = -numerator, denominator = -denominator;
  __int128 a = numerator < 0 ? -numerator : numerator, b = denominator;
  while (b != 0) a = std::exchange(b, a % b);
  numerator /= a, denominator /= a;
  if (numerator > INT64_MAX || numerator < -INT64_MAX || denominator > INT64_MAX) return std::nullopt;
  return Fraction{static_cast<int64_t>(numerator), static_cast<int64_t>(denominator)};
}

AlgebraicValue OfInteger(int64_t value) {
  AlgebraicValue result{.fraction = Fraction{value, 1}};
  for (size_t i = 0; i < result.residues.size(); ++i) result.residues[i] = OfSigned(value, PrimeOf(i).value());
  return result;
}

// A value of its own at every point.
AlgebraicValue OfSymbol(uint64_t symbol) {
  AlgebraicValue result;
  for (size_t i = 0; i < result.residues.size(); ++i) {
    const std::array<uint32_t, 4> words = core::Philox(symbol, i, 0);
    result.residues[i] = (uint64_t{words[0]} << 32 | words[1]) % PrimeOf(i).value();
  }
  return result;
}

AlgebraicValue Sum(const AlgebraicValue& a, const AlgebraicValue& b) {
  AlgebraicValue sum;
  for (size_t i = 0; i < sum.residues.size(); ++i)
    sum.residues[i] = (a.residues[i] + b.residues[i]) % PrimeOf(i).value();
  if (a.fraction && b.fraction) {
    const __int128 left = __int128{a.fraction->numerator} * b.fraction->denominator;
    const __int128 right = __int128{b.fraction->numerator} * a.fraction->denominator;
    // Both are below 2^126, so the sum fits.
    sum.fraction = MakeFraction(left + right, __int128{a.fraction->denominator} * b.fraction->denominator);
  }
  return sum;
}

AlgebraicValue Negative(AlgebraicValue a) {
  for (size_t i = 0; i < a.residues.size(); ++i) {
    if (a.residues[i] != 0) a.residues[i] = PrimeOf(i).value() - a.residues[i];
  }
  if (a.fraction) a.fraction->numerator = -a.fraction->numerator;
  return a;
}

AlgebraicValue Product(const AlgebraicValue& a, const AlgebraicValue& b) {
  AlgebraicValue product;
  for (size_t i = 0; i < product.residues.size(); ++i) {
    product.residues[i] = Times(a.residues[i], b.residues[i], PrimeOf(i));
  }
  if (a.fraction && b.fraction) {
    product.fraction = MakeFraction(__int128{a.fraction->numerator} * b.fraction->numerator,
                                    __int128{a.fraction->denominator} * b.fraction->denominator);
  }
  return product;
}

absl::StatusOr<AlgebraicValue> Quotient(const AlgebraicValue& a, const AlgebraicValue& b) {
  AlgebraicValue inverse;
  for (size_t i = 0; i < b.residues.size(); ++i) {
    if (b.residues[i] == 0) return absl::InvalidArgumentError("divides by zero");
    inverse.residues[i] = Inverse(b.residues[i], PrimeOf(i));
  }
  if (b.fraction) inverse.fraction = MakeFraction(b.fraction->denominator, b.fraction->numerator);
  return Product(a, inverse);
}

absl::StatusOr<AlgebraicValue> RaisedTo(const AlgebraicValue& base, int64_t exponent) {
  if (exponent > kMaxExponent || exponent < -kMaxExponent) {
    return absl::ResourceExhaustedError("has too large an exponent");
  }
  if (exponent < 0) {
    ASSIGN_OR_RETURN(const AlgebraicValue inverse, Quotient(OfInteger(1), base));
    return RaisedTo(inverse, -exponent);
  }
  if (exponent == 0 && base.IsZero()) return absl::InvalidArgumentError("has 0 to the power of 0");
  AlgebraicValue power = OfInteger(1), square = base;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) power = Product(power, square);
    if (exponent > 1) square = Product(square, square);
  }
  return power;
}

// The digits of a number in `base`; separators and the point are skipped, and the decimals counted.
struct Digits {
  AlgebraicValue value;
  int64_t decimals = 0;
};
absl::StatusOr<Digits> ReadDigits(std::string_view text) {
  Digits digits{.value = OfInteger(0)};
  const AlgebraicValue ten = OfInteger(10);
  bool behind_point = false;
  for (const char c : text) {
    if (c == '.') behind_point = true;
    if (c < '0' || c > '9') continue;
    digits.value = Sum(Product(digits.value, ten), OfInteger(c - '0'));
    digits.decimals += behind_point;
  }
  return digits;
}

absl::Status NotAlgebraic() { return absl::UnimplementedError("is not algebraic"); }

// The root of a fraction, if it is one.
absl::StatusOr<AlgebraicValue> ExactRoot(const AlgebraicValue& radicand, int64_t index) {
  if (!radicand.fraction || index != 2 || radicand.fraction->numerator < 0) return NotAlgebraic();
  const auto root_of = [](int64_t square) -> int64_t {
    int64_t low = 0, high = int64_t{1} << 32;
    while (high - low > 1) {
      const int64_t middle = low + (high - low) / 2;
      (__int128{middle} * middle <= square ? low : high) = middle;
    }
    return low * low == square ? low : -1;
  };
  const int64_t over = root_of(radicand.fraction->numerator), under = root_of(radicand.fraction->denominator);
  if (over < 0 || under < 0) return NotAlgebraic();
  return Quotient(OfInteger(over), OfInteger(under));
}

class Evaluator {
 public:
  Evaluator(const MathExpression& expression, PlusMinus sign) : expression_(expression), sign_(sign) {}

  absl::StatusOr<AlgebraicValue> Of(int node) const {
    const MathNode& at = expression_[node];
    switch (at.kind) {
      case NodeKind::kNumber:
        return Number(at.text);
      case NodeKind::kSymbol:
        return OfSymbol(at.symbol);
      case NodeKind::kPi:
        return OfSymbol(kPiSymbol);
      case NodeKind::kEuler:
        return OfSymbol(kEulerSymbol);
      case NodeKind::kImaginary:
        return Imaginary();
      case NodeKind::kSum:
        return SumOf(at.first);
      case NodeKind::kPlusMinus:
        return Signed(at.first, sign_ == PlusMinus::kLower);
      case NodeKind::kMinusPlus:
        return Signed(at.first, sign_ == PlusMinus::kUpper);
      case NodeKind::kNegate:
        return Signed(at.first, true);
      case NodeKind::kProduct:
      case NodeKind::kQuotient:
        return Binary(at);
      case NodeKind::kPower:
        return PowerOf(at);
      case NodeKind::kRoot:
        return RootOf(at);
      case NodeKind::kPercent:
        return Percent(at.first);
      case NodeKind::kFactorial:
        return FactorialOf(at.first);
      case NodeKind::kBinomial:
        return BinomialOf(at);
      default:
        return NotAlgebraic();
    }
  }

 private:
  int Second(const MathNode& node) const { return expression_[node.first].next; }

  static absl::StatusOr<AlgebraicValue> Number(std::string_view text) {
    ASSIGN_OR_RETURN(const Digits digits, ReadDigits(text));
    if (digits.decimals == 0) return digits.value;
    ASSIGN_OR_RETURN(const AlgebraicValue scale, RaisedTo(OfInteger(10), digits.decimals));
    return Quotient(digits.value, scale);
  }

  static AlgebraicValue Imaginary() {
    AlgebraicValue value;
    for (size_t i = 0; i < value.residues.size(); ++i) value.residues[i] = PrimeOf(i).imaginary;
    return value;
  }

  absl::StatusOr<AlgebraicValue> SumOf(int child) const {
    AlgebraicValue sum = OfInteger(0);
    for (; child >= 0; child = expression_[child].next) {
      ASSIGN_OR_RETURN(const AlgebraicValue term, Of(child));
      sum = Sum(sum, term);
    }
    return sum;
  }

  absl::StatusOr<AlgebraicValue> Signed(int child, bool negative) const {
    ASSIGN_OR_RETURN(const AlgebraicValue value, Of(child));
    return negative ? Negative(value) : value;
  }

  absl::StatusOr<AlgebraicValue> Binary(const MathNode& node) const {
    ASSIGN_OR_RETURN(const AlgebraicValue left, Of(node.first));
    ASSIGN_OR_RETURN(const AlgebraicValue right, Of(Second(node)));
    if (node.kind == NodeKind::kProduct) return Product(left, right);
    return Quotient(left, right);
  }

  absl::StatusOr<AlgebraicValue> PowerOf(const MathNode& node) const {
    ASSIGN_OR_RETURN(const AlgebraicValue exponent, Of(Second(node)));
    ASSIGN_OR_RETURN(const AlgebraicValue base, Of(node.first));
    if (!exponent.fraction) {
      // A number that does not fit is beyond every budget.
      return HasSymbol(Second(node)) ? NotAlgebraic() : absl::ResourceExhaustedError("has too large an exponent");
    }
    if (exponent.fraction->denominator == 1) return RaisedTo(base, exponent.fraction->numerator);
    ASSIGN_OR_RETURN(const AlgebraicValue root, ExactRoot(base, exponent.fraction->denominator));
    return RaisedTo(root, exponent.fraction->numerator);
  }

  bool HasSymbol(int node) const {
    const NodeKind kind = expression_[node].kind;
    if (kind == NodeKind::kSymbol || kind == NodeKind::kPi || kind == NodeKind::kEuler ||
        kind == NodeKind::kImaginary) {
      return true;
    }
    for (int child = expression_[node].first; child >= 0; child = expression_[child].next) {
      if (HasSymbol(child)) return true;
    }
    return false;
  }

  absl::StatusOr<AlgebraicValue> RootOf(const MathNode& node) const {
    ASSIGN_OR_RETURN(const AlgebraicValue radicand, Of(node.first));
    int64_t index = 2;
    if (Second(node) >= 0) {
      ASSIGN_OR_RETURN(index, SmallInteger(Second(node), kMaxExponent));
    }
    return ExactRoot(radicand, index);
  }

  absl::StatusOr<AlgebraicValue> Percent(int child) const {
    ASSIGN_OR_RETURN(const AlgebraicValue value, Of(child));
    return Quotient(value, OfInteger(100));
  }

  // The value of a child that must be an integer in 0 .. most.
  absl::StatusOr<int64_t> SmallInteger(int child, int64_t most) const {
    ASSIGN_OR_RETURN(const AlgebraicValue value, Of(child));
    if (!value.fraction || value.fraction->denominator != 1 || value.fraction->numerator < 0) return NotAlgebraic();
    if (value.fraction->numerator > most) return absl::ResourceExhaustedError("has too large a factorial");
    return value.fraction->numerator;
  }

  absl::StatusOr<AlgebraicValue> FactorialOf(int child) const {
    ASSIGN_OR_RETURN(const int64_t n, SmallInteger(child, kMaxFactorial));
    AlgebraicValue product = OfInteger(1);
    for (int64_t i = 2; i <= n; ++i) product = Product(product, OfInteger(i));
    return product;
  }

  absl::StatusOr<AlgebraicValue> BinomialOf(const MathNode& node) const {
    ASSIGN_OR_RETURN(const int64_t n, SmallInteger(node.first, kMaxFactorial));
    ASSIGN_OR_RETURN(const int64_t k, SmallInteger(Second(node), kMaxFactorial));
    if (k > n) return OfInteger(0);
    AlgebraicValue over = OfInteger(1), under = OfInteger(1);
    for (int64_t i = 1; i <= k; ++i) {
      over = Product(over, OfInteger(n - k + i));
      under = Product(under, OfInteger(i));
    }
    return Quotient(over, under);
  }

  const MathExpression& expression_;
  const PlusMinus sign_;
};

}  // namespace

absl::StatusOr<AlgebraicValue> EvaluateAlgebraic(MathPart part) {
  return Evaluator(*part.expression, part.sign).Of(part.node);
}

bool AreEqual(const AlgebraicValue& a, const AlgebraicValue& b) {
  return a.fraction && b.fraction ? *a.fraction == *b.fraction : a.residues == b.residues;
}

bool AreProportional(const AlgebraicValue& a, const AlgebraicValue& b) {
  for (size_t prime = 0; prime < std::size(kPrimes); ++prime) {
    const size_t first = prime * kPoints;
    const Prime& p = kPrimes[prime];
    if (a.residues[first] == 0 || b.residues[first] == 0) return false;
    for (size_t i = first + 1; i < first + kPoints; ++i) {
      if (Times(a.residues[first], b.residues[i], p) != Times(b.residues[first], a.residues[i], p)) return false;
    }
  }
  return true;
}

AlgebraicValue Difference(const AlgebraicValue& a, const AlgebraicValue& b) { return Sum(a, Negative(b)); }

}  // namespace conclave::rl
