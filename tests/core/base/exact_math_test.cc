// SPDX-License-Identifier: Apache-2.0
// The exact functions against long double libm: within 2 ulp over their ranges, and right at the edges.
#include "core/base/exact_math.h"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/rng.h"

namespace conclave::core {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Distance of `got` from the true value in units of the last place of the true value.
double UlpError(double got, long double want) {
  const double rounded = static_cast<double>(want);
  const double ulp = std::nextafter(std::fabs(rounded), kInfinity) - std::fabs(rounded);
  return static_cast<double>(std::fabs(static_cast<long double>(got) - want) / ulp);
}

// Uniform in [low, high).
double Draw(uint64_t index, double low, double high) {
  const auto words = Philox(7, index, 0);
  return low + (high - low) * (words[0] * 0x1p-32 + words[1] * 0x1p-64);
}

TEST(ExactMath, ExpIsWithinTwoUlp) {
  double worst = 0;
  for (uint64_t i = 0; i < 200000; ++i) {
    const double x = i % 2 ? Draw(i, -708, 709.7) : Draw(i, -1, 1) * std::ldexp(1, -static_cast<int>(i % 60));
    worst = std::max(worst, UlpError(ExactExp(x), std::exp(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 2);
}

TEST(ExactMath, ExpAtTheEdges) {
  EXPECT_EQ(ExactExp(0), 1);
  EXPECT_EQ(ExactExp(-0.0), 1);
  EXPECT_EQ(ExactExp(DBL_MIN), 1);
  EXPECT_EQ(ExactExp(kInfinity), kInfinity);
  EXPECT_EQ(ExactExp(-kInfinity), 0);
  EXPECT_EQ(ExactExp(710), kInfinity);
  EXPECT_EQ(ExactExp(-709), 0);
  for (double x : {709.78, -708.396}) {
    EXPECT_LT(UlpError(ExactExp(x), std::exp(static_cast<long double>(x))), 2) << x;
  }
  EXPECT_TRUE(std::isnan(ExactExp(NAN)));
}

TEST(ExactMath, LogIsWithinTwoUlp) {
  double worst = 0;
  for (uint64_t i = 0; i < 200000; ++i) {
    double x = 0;
    switch (i % 3) {
      case 0:
        x = std::ldexp(Draw(i, 1, 2), static_cast<int>(i % 2040) - 1020);
        break;
      case 1:
        x = 1 + Draw(i, -0.3, 0.42);
        break;
      case 2:
        x = 1 + Draw(i, -1, 1) * std::ldexp(1, -static_cast<int>(i % 52));
        break;
    }
    if (x <= 0 || x == 1) continue;
    worst = std::max(worst, UlpError(ExactLog(x), std::log(static_cast<long double>(x))));
  }
  EXPECT_LT(worst, 2);
}

TEST(ExactMath, LogAtTheEdges) {
  EXPECT_EQ(ExactLog(1), 0);
  EXPECT_EQ(ExactLog(0), -kInfinity);
  EXPECT_EQ(ExactLog(-0.0), -kInfinity);
  EXPECT_EQ(ExactLog(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(ExactLog(-1)));
  EXPECT_TRUE(std::isnan(ExactLog(-kInfinity)));
  EXPECT_TRUE(std::isnan(ExactLog(NAN)));
  for (double x : {DBL_TRUE_MIN, 3 * DBL_TRUE_MIN, DBL_MIN / 3, DBL_MIN, DBL_MAX}) {
    EXPECT_LT(UlpError(ExactLog(x), std::log(static_cast<long double>(x))), 2) << x;
  }
}

TEST(ExactMath, PowIsWithinTwoUlp) {
  double worst = 0;
  for (uint64_t i = 0; i < 30000; ++i) {
    const double base = i % 3 == 0 ? Draw(i, 0.8, 1) : std::ldexp(Draw(i, 1, 2), static_cast<int>(i % 41) - 20);
    const double x = i % 2 ? Draw(i + 1000000, -20, 20) : std::floor(Draw(i, 1, 3000));
    const long double want = std::pow(static_cast<long double>(base), static_cast<long double>(x));
    if (want > DBL_MAX || want < 0x1.01p-1022L) continue;
    worst = std::max(worst, UlpError(ExactPow(base, x), want));
  }
  EXPECT_LT(worst, 2);
}

TEST(ExactMath, PowAtTheEdges) {
  EXPECT_EQ(ExactPow(10000, 0), 1);
  EXPECT_EQ(ExactPow(1, 1e300), 1);
  EXPECT_EQ(ExactPow(2, 10), 1024);
  EXPECT_EQ(ExactPow(2, -3), 0.125);
  EXPECT_EQ(ExactPow(0.9, 1), 0.9);
  EXPECT_EQ(ExactPow(0, 5), 0);
  EXPECT_EQ(ExactPow(0, -1), kInfinity);
  EXPECT_EQ(ExactPow(2, 1e300), kInfinity);
  EXPECT_EQ(ExactPow(2, -1e300), 0);
  EXPECT_EQ(ExactPow(0.5, kInfinity), 0);
  EXPECT_EQ(ExactPow(0.9, 1e6), 0);
  EXPECT_TRUE(std::isnan(ExactPow(-2, 2)));
  EXPECT_TRUE(std::isnan(ExactPow(2, NAN)));
}

TEST(ExactMath, SineAndCosineAreWithinTwoUlp) {
  double worst_sin = 0, worst_cos = 0;
  for (uint64_t i = 0; i < 200000; ++i) {
    double x = 0;
    switch (i % 4) {
      case 0:
        x = Draw(i, -0x1p20, 0x1p20);
        break;
      case 1:
        x = Draw(i, -7, 7);
        break;
      case 2:
        x = std::floor(Draw(i, -0x1p20, 0x1p20));
        break;  // positions times frequency 1
      // The doubles nearest to multiples of pi / 2, where nearly all digits cancel.
      case 3:
        x = static_cast<double>(static_cast<long double>(std::floor(Draw(i, 1, 600000))) * (M_PIl / 2));
        break;
    }
    worst_sin = std::max(worst_sin, UlpError(ExactSin(x), std::sin(static_cast<long double>(x))));
    worst_cos = std::max(worst_cos, UlpError(ExactCos(x), std::cos(static_cast<long double>(x))));
  }
  EXPECT_LT(worst_sin, 2);
  EXPECT_LT(worst_cos, 2);
}

TEST(ExactMath, SineAndCosineAtTheEdges) {
  EXPECT_EQ(ExactSin(0), 0);
  EXPECT_EQ(ExactCos(0), 1);
  EXPECT_EQ(ExactSin(1e-300), 1e-300);
  for (double x : {-0x1p20, 0x1p20}) {
    EXPECT_LT(UlpError(ExactSin(x), std::sin(static_cast<long double>(x))), 2);
    EXPECT_LT(UlpError(ExactCos(x), std::cos(static_cast<long double>(x))), 2);
  }
  for (double x : {0.1, 1.0, 2.5, 1000.0}) EXPECT_EQ(ExactSin(-x), -ExactSin(x));
}

TEST(ExactMath, BitsDoNotDependOnTheTreatmentOfSubnormals) {
  const auto values = [] {
    std::vector<double> y = {ExactLog(DBL_TRUE_MIN), ExactLog(DBL_MIN / 3), ExactExp(-708.3963), ExactExp(-708.5)};
    for (double x : {-745.0, -1.0, -1e-310, 1e-310, 0.5, 700.0}) y.insert(y.end(), {ExactExp(x), ExactPow(1.5, x)});
    return y;
  };
  const unsigned int mode = _mm_getcsr();
  const std::vector<double> want = values();
  _mm_setcsr(mode | 0x8040);  // flush results, read inputs as zero
  const std::vector<double> got = values();
  _mm_setcsr(mode);
  EXPECT_EQ(got, want);
}

TEST(ExactMath, RefusesAnglesBeyondItsRange) {
  EXPECT_DEATH(ExactSin(0x1p21), "CHECK failed");
  EXPECT_DEATH(ExactCos(NAN), "CHECK failed");
}

}  // namespace
}  // namespace conclave::core
