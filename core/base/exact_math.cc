// SPDX-License-Identifier: Apache-2.0
// Range reduction, then a Taylor series whose first dropped term is below 2^-60. Only + - * / of doubles and integer
// operations on their bits: no FMA, no library. Results below 2^-1022 are 0, so flushing modes change nothing.
#include "core/base/exact_math.h"

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "core/base/check.h"

namespace conclave::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kLn2High = 0x1.62e42feep-1;  // 32 bits: times an exponent it is exact
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kLn2Lower = 0x1.cc01f97b57a08p-87;  // ln 2 - high - low
constexpr double kRoundToInteger = 0x1.8p52;         // added and subtracted: nearest-even integer of |x| < 2^51

constexpr auto kInverseFactorial = [] {  // 1 / n! for n <= 18, each rounded once
  std::array<double, 19> table{};
  double factorial = 1;
  for (int n = 0; n <= 18; ++n) {
    table[n] = 1 / factorial;
    factorial *= n + 1;
  }
  return table;
}();
constexpr auto kTwoOver = [] {  // 2 / n
  std::array<double, 24> table{};
  for (int n = 1; n < 24; ++n) table[n] = 2.0 / n;
  return table;
}();

// An unevaluated sum high + low with |low| <= ulp(high) / 2.
struct Double2 {
  double high, low;
};

Double2 FastTwoSum(double large, double small) {
  const double sum = large + small;
  return {sum, small - (sum - large)};
}

Double2 TwoSum(double a, double b) {
  const double sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

Double2 Split(double a) {  // 26 bits each
  const double shifted = a * 0x1.0000002p27, high = shifted - (shifted - a);
  return {high, a - high};
}

Double2 TwoProduct(double a, double b) {
  const double product = a * b;
  const Double2 x = Split(a), y = Split(b);
  return {product, ((x.high * y.high - product) + x.high * y.low + x.low * y.high) + x.low * y.low};
}

Double2 operator+(Double2 a, Double2 b) {
  const Double2 high = TwoSum(a.high, b.high), low = TwoSum(a.low, b.low);
  const Double2 sum = FastTwoSum(high.high, high.low + low.high);
  return FastTwoSum(sum.high, sum.low + low.low);
}

Double2 operator*(Double2 a, Double2 b) {
  const Double2 product = TwoProduct(a.high, b.high);
  return FastTwoSum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

Double2 operator/(Double2 a, Double2 b) {
  const double first = a.high / b.high;
  const Double2 product = b * Double2{first, 0};
  const Double2 rest = a + Double2{-product.high, -product.low};
  return FastTwoSum(first, rest.high / b.high);
}

// x = mantissa * 2^exponent with mantissa in [sqrt(1/2), sqrt(2)); x > 0 and finite.
struct Parts {
  double mantissa;
  int exponent;
};

Parts Decompose(double x) {
  uint64_t bits = std::bit_cast<uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  if (exponent == -1023) {  // subnormal: shift the leading bit to where the hidden one stands
    const int shift = std::countl_zero(bits) - 11;
    bits <<= shift;
    exponent = -1022 - shift;
  }
  const uint64_t fraction = bits & 0xfffffffffffffu;
  const bool upper = fraction > 0x6a09e667f3bccu;  // above sqrt(2)
  return {std::bit_cast<double>(fraction | (upper ? 0x3fe0000000000000u : 0x3ff0000000000000u)), exponent + upper};
}

double PowerOfTwo(int n) { return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52); }

// e^(high + low) for |low| below ulp(high); both from ExactExp and ExactPow.
double ExpOfSum(double high, double low) {
  if (high != high) return high;
  if (high > 0x1.62e42fefa39efp9) return kInfinity;  // 1024 ln 2
  if (high < -708.3964) return 0;                    // just above the logarithm of 2^-1022
  const double k = (high * 1.4426950408889634 + kRoundToInteger) - kRoundToInteger;
  const Double2 r = FastTwoSum(high - k * kLn2High, low - k * kLn2Low);
  const double x = r.high;  // |x| < 0.3466
  double p = kInverseFactorial[13];
  for (int n = 12; n >= 2; --n) p = p * x + kInverseFactorial[n];
  const double y = 1 + (x + (r.low + x * x * p));
  const int n = static_cast<int>(k), half = n / 2;  // 2^1024 is not a double: two factors
  return y * PowerOfTwo(half) * PowerOfTwo(n - half);
}

// log x = exponent ln 2 + 2 atanh((m - 1) / (m + 1)), all in two doubles: about 2^-100.
Double2 LogInTwoDoubles(double x) {
  const Parts parts = Decompose(x);
  const Double2 s = Double2{parts.mantissa - 1, 0} / TwoSum(parts.mantissa, 1);
  const Double2 s2 = s * s;  // below 0.0295
  Double2 sum = {0, 0};
  for (int n = 41; n >= 1; n -= 2) sum = sum * s2 + Double2{1, 0} / Double2{static_cast<double>(n), 0};
  const double e = parts.exponent;
  const Double2 multiple = Double2{e * kLn2High, 0} + TwoProduct(e, kLn2Low) + Double2{e * kLn2Lower, 0};
  return multiple + s * sum * Double2{2, 0};
}

// x = n pi/2 + r; |r| <= pi/4 in two doubles.
struct Quadrant {
  int64_t n;
  Double2 r;
};

Quadrant ReduceToQuadrant(double x) {
  CHECK(x >= -0x1p20 && x <= 0x1p20);
  // pi/2 in three parts of 33 bits, whose products with n are exact, and a fourth of 53.
  constexpr double kPart1 = 0x1.921fb544p0, kPart2 = 0x1.0b4611a6p-34;
  constexpr double kPart3 = 0x1.3198a2ep-69, kPart4 = 0x1.b839a252049c1p-104;
  const double n = (x * 0.6366197723675814 + kRoundToInteger) - kRoundToInteger;
  const Double2 a = TwoSum(x - n * kPart1, -(n * kPart2));
  const Double2 b = TwoSum(a.high, -(n * kPart3));
  return {static_cast<int64_t>(n), FastTwoSum(b.high, (a.low + b.low) - n * kPart4)};
}

double SinKernel(Double2 r) {
  const double x = r.high, z = x * x;
  double p = kInverseFactorial[17];
  for (int n = 15; n >= 3; n -= 2) p = kInverseFactorial[n] - p * z;
  return x - (x * z * p - r.low * (1 - 0.5 * z));
}

double CosKernel(Double2 r) {
  const double x = r.high, z = x * x;
  double p = kInverseFactorial[18];
  for (int n = 16; n >= 4; n -= 2) p = kInverseFactorial[n] - p * z;
  const double half = 0.5 * z, rounded = 1 - half;
  return rounded + (((1 - rounded) - half) + (z * z * p - x * r.low));
}

// The sine of r plus n quarter turns.
double SinOfQuadrant(int64_t n, Double2 r) {
  const double magnitude = n & 1 ? CosKernel(r) : SinKernel(r);
  return n & 2 ? -magnitude : magnitude;
}

}  // namespace

double ExactExp(double x) { return ExpOfSum(x, 0); }

double ExactLog(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);  // comparisons of doubles would take subnormals for 0 in some modes
  if (x != x || bits << 1 == 0) return x != x ? x : -kInfinity;
  if (bits >> 63) return kNan;
  if (x == kInfinity) return x;
  const Parts parts = Decompose(x);
  // With f = m - 1 and s = f / (2 + f): log m = f - f^2/2 + s (f^2/2 + R(s^2)), R the tail of 2 atanh(s) / s.
  const double f = parts.mantissa - 1, s = f / (2 + f), z = s * s, half_square = 0.5 * f * f;
  double tail = kTwoOver[23];
  for (int n = 21; n >= 3; n -= 2) tail = tail * z + kTwoOver[n];
  const double e = parts.exponent;
  return e * kLn2High - ((half_square - (s * (half_square + tail * z) + e * kLn2Low)) - f);
}

double ExactPow(double base, double x) {
  if (x == 0 || base == 1) return 1;
  if (base == 0) return x > 0 ? 0 : x < 0 ? kInfinity : kNan;
  if (!(base > 0 && base < kInfinity) || x != x) return kNan;
  const Double2 log = LogInTwoDoubles(base);
  if (const double rough = log.high * x; !(rough < 1000 && rough > -1000)) return rough > 0 ? kInfinity : 0;
  const Double2 product = log * Double2{x, 0};
  return ExpOfSum(product.high, product.low);
}

double ExactSin(double x) {
  const Quadrant q = ReduceToQuadrant(x);
  return SinOfQuadrant(q.n, q.r);
}

double ExactCos(double x) {
  const Quadrant q = ReduceToQuadrant(x);
  return SinOfQuadrant(q.n + 1, q.r);
}

}  // namespace conclave::core
