// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/math_numeric.h"

#include <array>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <boost/multiprecision/cpp_complex.hpp>

#include "absl/status/statusor.h"

#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "rl/reward/math_value.h"

namespace conclave::rl {
namespace {

using boost::multiprecision::cpp_bin_float;
using Real = boost::multiprecision::number<cpp_bin_float<80>, boost::multiprecision::et_off>;
using Complex = boost::multiprecision::number<boost::multiprecision::complex_adaptor<cpp_bin_float<80>>,
                                              boost::multiprecision::et_off>;
using Value = absl::StatusOr<Complex>;

constexpr int64_t kNodeWork = 1, kFunctionWork = 200;
constexpr int64_t kMaxExponent = 100'000;
constexpr int kNumPoints = 3;

Real Pi() { return boost::math::constants::pi<Real>(); }
bool IsReal(const Complex& z) { return z.imag() == 0; }
Real Magnitude(const Complex& z) { return abs(z.real()) + abs(z.imag()); }

// The angle of the point (x, y), which is not zero: a rational guess within 0.004, then steps by the sine of what is
// missing, each of which leaves its cube. The library's own arcus functions begin with libm, which differs by machine.
Real AngleOf(const Real& x, const Real& y) {
  const bool steep = abs(y) > abs(x);
  const Real slope = steep ? abs(Real(x / y)) : abs(Real(y / x));
  Real angle = slope * (Pi() / 4 + Real(0.273) * (1 - slope));
  if (steep) angle = Pi() / 2 - angle;
  if (x < 0) angle = Pi() - angle;
  if (y < 0) angle = -angle;
  const Real length = sqrt(Real(x * x + y * y));
  for (int i = 0; i < 4; ++i) angle += (y * cos(angle) - x * sin(angle)) / length;
  return angle;
}

absl::Status NoNumber() { return absl::UnimplementedError("has no number"); }
absl::Status TooMuch() { return absl::ResourceExhaustedError("takes too much work"); }

struct Point {
  int index;
  WorkBudget& budget;
  Real scale = 1;  // the largest magnitude on the way
};

// A fixed pseudo-random value: positive at the first point, negative at the second, complex at the third.
Complex ValueOf(uint64_t symbol, int point) {
  const std::array<uint32_t, 4> words = core::Philox(symbol, static_cast<uint64_t>(point), 1);
  const Real a = Real(words[0]) / Real(uint64_t{1} << 31) + Real(0.25), b = Real(words[1]) / Real(uint64_t{1} << 32);
  if (point == 2) return Complex(a, b + Real(0.25));
  return Complex(point == 0 ? a : Real(-a));
}

class Evaluator {
 public:
  Evaluator(MathPart part, Point& point) : expression_(*part.expression), sign_(part.sign), point_(point) {}

  Value Of(int node) {
    if (!Spend(kNodeWork)) return TooMuch();
    ASSIGN_OR_RETURN(Complex value, ValueAt(expression_[node]));
    if (!isfinite(value.real()) || !isfinite(value.imag())) return NoNumber();
    // Minus zero would put logarithms and roots on the other side of their cut.
    if (value.imag() == 0) value = Complex(value.real(), Real(0));
    const Real magnitude = Magnitude(value);
    if (magnitude > Real("1e200")) return TooMuch();
    if (magnitude > point_.scale) point_.scale = magnitude;
    return value;
  }

 private:
  bool Spend(int64_t work) { return (point_.budget.left -= work) >= 0; }
  int Second(const MathNode& node) const { return expression_[node.first].next; }

  Value ValueAt(const MathNode& at) {
    switch (at.kind) {
      case NodeKind::kNumber:
        return Number(at.text);
      case NodeKind::kSymbol:
        return ValueOf(at.symbol, point_.index);
      case NodeKind::kPi:
        return Complex(Pi());
      case NodeKind::kEuler:
        return Complex(boost::math::constants::e<Real>());
      case NodeKind::kImaginary:
        return Complex(Real(0), Real(1));
      case NodeKind::kSum:
        return Sum(at.first);
      case NodeKind::kPlusMinus:
        return Signed(at.first, sign_ == PlusMinus::kLower);
      case NodeKind::kMinusPlus:
        return Signed(at.first, sign_ == PlusMinus::kUpper);
      case NodeKind::kNegate:
        return Signed(at.first, true);
      case NodeKind::kProduct:
        return Product(at);
      case NodeKind::kQuotient:
        return Quotient(at);
      case NodeKind::kPower:
        return Power(at);
      case NodeKind::kRoot:
        return Root(at);
      case NodeKind::kFunction:
        return Function(at);
      case NodeKind::kPercent:
        return Scaled(at.first, Real(1) / 100);
      case NodeKind::kDegree:
        return Scaled(at.first, Pi() / 180);
      case NodeKind::kFactorial:
      case NodeKind::kBinomial:
        return Counted(at);
      default:
        return NoNumber();
    }
  }

  static Value Number(std::string_view text) {
    Real value = 0, scale = 1;
    bool behind_point = false;
    for (const char c : text) {
      if (c == '.') behind_point = true;
      if (c < '0' || c > '9') continue;
      value = value * 10 + (c - '0');
      if (behind_point) scale *= 10;
    }
    return Complex(value / scale);
  }

  Value Sum(int child) {
    Complex sum = 0;
    for (; child >= 0; child = expression_[child].next) {
      ASSIGN_OR_RETURN(const Complex term, Of(child));
      sum += term;
    }
    return sum;
  }

  Value Signed(int child, bool negative) {
    ASSIGN_OR_RETURN(const Complex value, Of(child));
    return negative ? Complex(-value) : value;
  }

  Value Scaled(int child, const Real& factor) {
    ASSIGN_OR_RETURN(const Complex value, Of(child));
    return Complex(value * factor);
  }

  Value Product(const MathNode& at) {
    ASSIGN_OR_RETURN(const Complex left, Of(at.first));
    ASSIGN_OR_RETURN(const Complex right, Of(Second(at)));
    return Complex(left * right);
  }

  Value Quotient(const MathNode& at) {
    ASSIGN_OR_RETURN(const Complex left, Of(at.first));
    ASSIGN_OR_RETURN(const Complex right, Of(Second(at)));
    return Divide(left, right);
  }

  static Value Divide(const Complex& a, const Complex& b) {
    if (Magnitude(b) < Real("1e-40")) return NoNumber();  // zero, or not to be told from it
    return Complex(a / b);
  }

  // n!, binomials: what their exact value fits into.
  Value Counted(const MathNode& at) {
    const int node = static_cast<int>(&at - expression_.nodes.data());
    ASSIGN_OR_RETURN(const AlgebraicValue value, EvaluateAlgebraic({&expression_, node, sign_}));
    if (!value.fraction) return TooMuch();
    return Complex(Real(value.fraction->numerator) / Real(value.fraction->denominator));
  }

  std::optional<Fraction> ExactFraction(int node) const {
    const absl::StatusOr<AlgebraicValue> value = EvaluateAlgebraic({&expression_, node, sign_});
    return value.ok() ? value->fraction : std::nullopt;
  }

  Value Power(const MathNode& at) {
    ASSIGN_OR_RETURN(const Complex base, Of(at.first));
    const std::optional<Fraction> exponent = ExactFraction(Second(at));
    if (exponent && exponent->denominator == 1) return WholePower(base, exponent->numerator);
    if (!Spend(kFunctionWork)) return TooMuch();
    if (exponent) {
      ASSIGN_OR_RETURN(const Complex root, RootOf(base, exponent->denominator));
      return WholePower(root, exponent->numerator);
    }
    ASSIGN_OR_RETURN(const Complex power, Of(Second(at)));
    if (Magnitude(base) < Real("1e-40") || Magnitude(power) > 1000) return NoNumber();
    ASSIGN_OR_RETURN(const Complex logarithm, Log(base));
    return Exp(logarithm * power);
  }

  static Value WholePower(Complex base, int64_t exponent) {
    if (exponent > kMaxExponent || exponent < -kMaxExponent) return TooMuch();
    if (exponent < 0) {
      ASSIGN_OR_RETURN(base, Divide(Complex(1), base));
      exponent = -exponent;
    }
    Complex power = 1;
    for (; exponent > 0; exponent >>= 1, base *= base) {
      if (exponent & 1) power *= base;
    }
    return power;
  }

  Value Root(const MathNode& at) {
    ASSIGN_OR_RETURN(const Complex radicand, Of(at.first));
    if (!Spend(kFunctionWork)) return TooMuch();
    if (Second(at) < 0) return RootOf(radicand, 2);
    const std::optional<Fraction> index = ExactFraction(Second(at));
    if (!index || index->denominator != 1 || index->numerator < 2) return NoNumber();
    return RootOf(radicand, index->numerator);
  }

  // The principal root, but of negative numbers the real one where there is one.
  static Value RootOf(const Complex& z, int64_t index) {
    if (Magnitude(z) == 0) return z;
    const bool negative = IsReal(z) && z.real() < 0;
    if (index == 2 && IsReal(z)) {
      return negative ? Complex(Real(0), sqrt(Real(-z.real()))) : Complex(sqrt(z.real()));
    }
    if (IsReal(z) && (!negative || index % 2 == 1)) {
      const Real root = exp(log(abs(z.real())) / index);
      return Complex(negative ? Real(-root) : root);
    }
    ASSIGN_OR_RETURN(const Complex logarithm, Log(z));
    return Exp(logarithm / Real(index));
  }

  static Value Log(const Complex& z) {
    if (Magnitude(z) < Real("1e-40")) return NoNumber();
    if (IsReal(z) && z.real() > 0) return Complex(log(z.real()));
    return Complex(log(sqrt(z.real() * z.real() + z.imag() * z.imag())), AngleOf(z.real(), z.imag()));
  }

  static Value Exp(const Complex& z) {
    if (Magnitude(z) > 400) return TooMuch();
    const Real length = exp(z.real());
    if (IsReal(z)) return Complex(length);
    return Complex(length * cos(z.imag()), length * sin(z.imag()));
  }

  Value Function(const MathNode& at) {
    if (!Spend(kFunctionWork)) return TooMuch();
    ASSIGN_OR_RETURN(const Complex z, Of(at.first));
    if (at.text == "abs") return Complex(sqrt(z.real() * z.real() + z.imag() * z.imag()));
    if (at.text == "exp") return Exp(z);
    if (at.text == "ln" || at.text == "log" || at.text == "lg") return Logarithm(at, z);
    if (at.text == "floor" || at.text == "ceil") return Rounded(at.text, z);
    if (at.text.starts_with("arc")) return ArcFunction(at.text, z);
    return Trigonometric(at.text, z);
  }

  Value Logarithm(const MathNode& at, const Complex& z) {
    ASSIGN_OR_RETURN(const Complex logarithm, Log(z));
    if (at.text == "ln") return logarithm;
    Complex base = 10;
    if (Second(at) >= 0) {
      ASSIGN_OR_RETURN(base, Of(Second(at)));
    }
    ASSIGN_OR_RETURN(const Complex of_base, Log(base));
    return Divide(logarithm, of_base);
  }

  static Value Rounded(std::string_view name, const Complex& z) {
    if (!IsReal(z) || abs(z.real()) > Real("1e20")) return NoNumber();
    const Real nearest = round(z.real());
    if (abs(z.real() - nearest) < Real("1e-50")) return Complex(nearest);
    return Complex(name == "floor" ? floor(z.real()) : ceil(z.real()));
  }

  static Value ArcFunction(std::string_view name, const Complex& z) {
    if (!IsReal(z)) return NoNumber();
    if (name == "arctan") return Complex(AngleOf(Real(1), z.real()));
    if (abs(z.real()) > 1) return NoNumber();
    const Real other = sqrt(Real(1 - z.real() * z.real()));
    return Complex(name == "arcsin" ? AngleOf(other, z.real()) : AngleOf(z.real(), other));
  }

  // sin, cos and what is made of them; a name with h at its end is that of i z.
  static Value Trigonometric(std::string_view name, const Complex& z) {
    const bool hyperbolic = name.ends_with('h');
    const Complex argument = hyperbolic ? Complex(-z.imag(), z.real()) : z;
    if (Magnitude(argument) > 400) return TooMuch();
    const Complex sine = IsReal(argument) ? Complex(sin(argument.real())) : sin(argument);
    const Complex cosine = IsReal(argument) ? Complex(cos(argument.real())) : cos(argument);
    const Complex minus_i(Real(0), Real(-1));
    if (name == "sin") return sine;
    if (name == "sinh") return Complex(minus_i * sine);
    if (name == "cos" || name == "cosh") return cosine;
    if (name == "tan") return Divide(sine, cosine);
    if (name == "tanh") return Divide(minus_i * sine, cosine);
    if (name == "cot") return Divide(cosine, sine);
    if (name == "sec") return Divide(Complex(1), cosine);
    if (name == "csc") return Divide(Complex(1), sine);
    return NoNumber();
  }

  const MathExpression& expression_;
  const PlusMinus sign_;
  Point& point_;
};

Value Evaluate(MathPart part, Point& point) { return Evaluator(part, point).Of(part.node); }

// Two values whose rounding errors are below 1e-70 of the scale.
Comparison Compare(const Complex& a, const Complex& b, const Real& scale) {
  const Real tolerance = Real("1e-70") * scale;
  if (Magnitude(a - b) > tolerance) return Comparison::kDifferent;
  const bool agrees = Magnitude(a) > tolerance * Real("1e50") || scale < Real("1e20");
  return agrees ? Comparison::kEqual : Comparison::kUndecided;
}

Comparison Problem(const absl::Status& status) {
  return absl::IsResourceExhausted(status) ? Comparison::kUndecided : Comparison::kDifferent;
}

bool HasSymbol(MathPart part) {
  if (part->kind == NodeKind::kSymbol) return true;
  for (int i = 0; i < part.NumChildren(); ++i) {
    if (HasSymbol(part.Child(i))) return true;
  }
  return false;
}

}  // namespace

Comparison CompareNumerically(MathPart a, MathPart b, WorkBudget& budget) {
  const int num_points = HasSymbol(a) || HasSymbol(b) ? kNumPoints : 1;
  for (int i = 0; i < num_points; ++i) {
    Point point{.index = i, .budget = budget};
    const Value left = Evaluate(a, point), right = Evaluate(b, point);
    if (!left.ok()) return Problem(left.status());
    if (!right.ok()) return Problem(right.status());
    const Comparison here = Compare(*left, *right, point.scale);
    if (here != Comparison::kEqual) return here;
  }
  return Comparison::kEqual;
}

Comparison CompareEquationsNumerically(MathPart a_left, MathPart a_right, MathPart b_left, MathPart b_right,
                                       WorkBudget& budget) {
  Complex first_a, first_b;
  for (int i = 0; i < kNumPoints; ++i) {
    Point point{.index = i, .budget = budget};
    const Value values[] = {Evaluate(a_left, point), Evaluate(a_right, point), Evaluate(b_left, point),
                            Evaluate(b_right, point)};
    for (const Value& value : values) {
      if (!value.ok()) return Problem(value.status());
    }
    const Complex a = *values[0] - *values[1], b = *values[2] - *values[3];
    if (Magnitude(a) < Real("1e-40") || Magnitude(b) < Real("1e-40")) return Comparison::kDifferent;
    if (i == 0) first_a = a, first_b = b;
    const Comparison here = Compare(first_a * b, first_b * a, point.scale * point.scale);
    if (here != Comparison::kEqual) return here;
  }
  return Comparison::kEqual;
}

}  // namespace conclave::rl
