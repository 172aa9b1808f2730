// SPDX-License-Identifier: Apache-2.0
// Transcendental functions in double precision from basic operations alone. glibc chooses its code by CPU, so nothing
// that reaches state or samples (initialization, RoPE and YaRN tables, schedules, bias correction) may call libm: these
// give the same bits on every x86-64 machine. Error below 2 ulp on the ranges stated.
#pragma once

namespace conclave::core {

double ExactExp(double x);               // all x; overflows to infinity, underflows to 0
double ExactLog(double x);               // x > 0; -infinity at 0, NaN below
double ExactPow(double base, double x);  // base > 0: exp(x log(base)) with the product kept in two doubles
double ExactSin(double x);               // |x| <= 2^20
double ExactCos(double x);               // |x| <= 2^20

}  // namespace conclave::core
