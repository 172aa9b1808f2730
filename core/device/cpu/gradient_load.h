// SPDX-License-Identifier: Apache-2.0
// Sixteen sums of a gradient as doubles and as floats (core/base/fixed_sum.h); those in f32 are exact as doubles. An
// i64 becomes a double with one rounding: AVX-512 has the instruction. AVX2 puts the halves into the mantissas of 2^84
// + high 2^32 (sign bit flipped) and 2^52 + low; removing the constants from the first is exact, and adding the second
// rounds once.
#pragma once

#include <algorithm>

#include "core/base/fixed_sum.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

#if defined(__AVX512F__)

struct F64x16 {
  __m512d v[2];
};
inline F64x16 LoadGradient(const int64_t* sum, WholeVector) {
  const __m512d unit = _mm512_set1_pd(kGradientUnit);
  return {_mm512_mul_pd(_mm512_cvtepi64_pd(_mm512_loadu_si512(sum)), unit),
          _mm512_mul_pd(_mm512_cvtepi64_pd(_mm512_loadu_si512(sum + 8)), unit)};
}
inline F64x16 Widen(F32x16 x) {
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(x.v)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x.v, 1))};
}
inline F32x16 ToFloat(const F64x16& x) {
  return {_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.v[0])), _mm512_cvtpd_ps(x.v[1]), 1)};
}
// sum + x x, rounded twice.
inline F64x16 AddSquare(const F64x16& sum, const F64x16& x) {
  return {_mm512_add_pd(sum.v[0], _mm512_mul_pd(x.v[0], x.v[0])),
          _mm512_add_pd(sum.v[1], _mm512_mul_pd(x.v[1], x.v[1]))};
}
inline void StoreDoubles(double* p, const F64x16& x) {
  for (int i = 0; i < 2; ++i) _mm512_storeu_pd(p + 8 * i, x.v[i]);
}

#elif defined(__AVX2__)

struct F64x16 {
  __m256d v[4];
};
inline F64x16 LoadGradient(const int64_t* sum, WholeVector) {
  const __m256i low_base = _mm256_set1_epi64x(0x4330000000000000);                   // 2^52
  const __m256i high_base = _mm256_set1_epi64x(0x4530000080000000);                  // 2^84 + 2^63
  const __m256d both = _mm256_castsi256_pd(_mm256_set1_epi64x(0x4530000080100000));  // 2^84 + 2^63 + 2^52
  F64x16 y;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sum + 4 * i));
    const __m256d low = _mm256_castsi256_pd(_mm256_blend_epi32(low_base, x, 0x55));
    const __m256d high = _mm256_castsi256_pd(_mm256_xor_si256(_mm256_srli_epi64(x, 32), high_base));
    y.v[i] = _mm256_mul_pd(_mm256_add_pd(_mm256_sub_pd(high, both), low), _mm256_set1_pd(kGradientUnit));
  }
  return y;
}
inline F64x16 Widen(F32x16 x) {
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(x.lo)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.lo, 1)),
          _mm256_cvtps_pd(_mm256_castps256_ps128(x.hi)), _mm256_cvtps_pd(_mm256_extractf128_ps(x.hi, 1))};
}
inline F32x16 ToFloat(const F64x16& x) {
  return {_mm256_set_m128(_mm256_cvtpd_ps(x.v[1]), _mm256_cvtpd_ps(x.v[0])),
          _mm256_set_m128(_mm256_cvtpd_ps(x.v[3]), _mm256_cvtpd_ps(x.v[2]))};
}
inline F64x16 AddSquare(const F64x16& sum, const F64x16& x) {
  F64x16 y;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) y.v[i] = _mm256_add_pd(sum.v[i], _mm256_mul_pd(x.v[i], x.v[i]));
  return y;
}
inline void StoreDoubles(double* p, const F64x16& x) {
  for (int i = 0; i < 4; ++i) _mm256_storeu_pd(p + 4 * i, x.v[i]);
}

#else

struct F64x16 {
  double v[kLanes];
};
inline F64x16 LoadGradient(const int64_t* sum, WholeVector) {
  F64x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = static_cast<double>(sum[i]) * kGradientUnit;
  return y;
}
inline F64x16 Widen(F32x16 x) {
  F64x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = static_cast<double>(x.v[i]);
  return y;
}
inline F32x16 ToFloat(const F64x16& x) {
  F32x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = static_cast<float>(x.v[i]);
  return y;
}
inline F64x16 AddSquare(const F64x16& sum, const F64x16& x) {
  F64x16 y;
  for (int i = 0; i < kLanes; ++i) y.v[i] = sum.v[i] + x.v[i] * x.v[i];
  return y;
}
inline void StoreDoubles(double* p, const F64x16& x) { std::copy_n(x.v, kLanes, p); }

#endif

inline F64x16 LoadGradient(const int64_t* sum, PartOfVector part) {
  int64_t padded[kLanes] = {};
  std::copy_n(sum, part.lanes, padded);
  return LoadGradient(padded, WholeVector{});
}
template <class Lanes>
F64x16 LoadGradient(const float* sum, Lanes lanes) {
  return Widen(LoadLanes(sum, lanes));
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
