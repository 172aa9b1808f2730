// SPDX-License-Identifier: Apache-2.0
// Derivatives without subtraction: f'(x) = Im f(x + i h) / h with h = 1e-100 is exact to rounding for every analytic f,
// so the formula of an operation, written once as a template over its scalar, is also the truth for its backward.
#pragma once

#include <cmath>
#include <complex>
#include <functional>
#include <vector>

namespace conclave::core::test {

using Complex = std::complex<double>;
inline constexpr double kComplexStep = 1e-100;

// For decisions inside formulas (maxima, choices): they look at the value only, as kernels do.
inline double Real(double x) { return x; }
inline double Real(const Complex& x) { return x.real(); }

template <class T>
T Sigmoid(const T& x) {  // the branch keeps the exponential finite
  using std::exp;
  if (Real(x) >= 0) return T(1) / (T(1) + exp(-x));
  const T e = exp(x);
  return e / (T(1) + e);
}

// d f / d x[i].
inline double Derivative(std::vector<Complex>& x, size_t i, const std::function<Complex()>& f) {
  const Complex saved = x[i];
  x[i] += Complex(0, kComplexStep);
  const double derivative = f().imag() / kComplexStep;
  x[i] = saved;
  return derivative;
}

}  // namespace conclave::core::test
