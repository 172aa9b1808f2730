// SPDX-License-Identifier: Apache-2.0
// Sixteen virtual f32 lanes: one AVX-512 register, two AVX2 registers, or an array. Every file of this folder is compiled
// once per target (CMakeLists.txt) with CONCLAVE_TARGET naming the namespace; the operations below give the same bits on
// all of them. Reductions over lanes use one tree: i with i + 8, i + 4, i + 2, i + 1.
#pragma once

// GCC 12 warns about the undefined registers inside its own AVX-512 intrinsics (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <bit>
#include <cstdint>

#include "core/tensor/dtype.h"

#ifndef CONCLAVE_TARGET
#error "compile files of core/device/cpu with -DCONCLAVE_TARGET=<namespace>"
#endif

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kLanes = 16;

#if defined(__AVX512F__)

struct F32x16 {
  __m512 v;
};
inline F32x16 Set(float x) { return {_mm512_set1_ps(x)}; }
inline F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void Store(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
inline __mmask16 FirstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }
// The first n lanes from memory, 0 in the others; nothing beyond is touched. 0 <= n <= 16.
inline F32x16 LoadPart(const float* p, int n) { return {_mm512_maskz_loadu_ps(FirstLanes(n), p)}; }
inline void StorePart(float* p, F32x16 x, int n) { _mm512_mask_storeu_ps(p, FirstLanes(n), x.v); }
inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }     // a b + c
inline F32x16 FmaNeg(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a b
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }  // b where unordered
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32x16 Sqrt(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
inline F32x16 RoundEven(F32x16 a) { return {_mm512_roundscale_ps(a.v, 8)}; }  // to an integral float
// a * 2^n for integral n in [-126, 127].
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  const __m512i e = _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23);
  return {_mm512_mul_ps(a.v, _mm512_castsi512_ps(e))};
}
// if_true where a < b, else if_false.
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), if_false.v, if_true.v)};
}
inline F32x16 KeepLanes(F32x16 a, int n, F32x16 others) {  // a in the first n lanes
  return {_mm512_mask_blend_ps(FirstLanes(n), others.v, a.v)};
}
inline F32x16 Load(const Bf16* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
inline F32x16 LoadPart(const Bf16* p, int n) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(FirstLanes(n), p)), 16))};
}
namespace detail {
inline __m256i RoundToBf16(__m512 x) {  // nearest-even in integers: keeps denormals, unlike vcvtneps2bf16
  const __m512i u = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  r = _mm512_mask_or_epi32(r, nan, _mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(r);
}
}  // namespace detail
inline void Store(Bf16* p, F32x16 x) { _mm256_storeu_si256((__m256i*)p, detail::RoundToBf16(x.v)); }
inline void StorePart(Bf16* p, F32x16 x, int n) {
  _mm256_mask_storeu_epi16(p, FirstLanes(n), detail::RoundToBf16(x.v));
}
inline float Sum(F32x16 a) {
  const __m256 hi = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.v), 1));
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

#elif defined(__AVX2__)

struct F32x16 {
  __m256 lo, hi;
};
namespace detail {
inline __m256i LaneMask(int n) {  // all ones in lanes below n; n may be negative or above 8
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
}  // namespace detail
inline F32x16 Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
inline F32x16 LoadPart(const float* p, int n) {
  return {_mm256_maskload_ps(p, detail::LaneMask(n)), _mm256_maskload_ps(p + 8, detail::LaneMask(n - 8))};
}
inline void StorePart(float* p, F32x16 x, int n) {
  _mm256_maskstore_ps(p, detail::LaneMask(n), x.lo);
  _mm256_maskstore_ps(p + 8, detail::LaneMask(n - 8), x.hi);
}
inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 FmaNeg(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F32x16 Sqrt(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline F32x16 RoundEven(F32x16 a) { return {_mm256_round_ps(a.lo, 8), _mm256_round_ps(a.hi, 8)}; }
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256i lo = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.lo), bias), 23);
  const __m256i hi = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.hi), bias), 23);
  return {_mm256_mul_ps(a.lo, _mm256_castsi256_ps(lo)), _mm256_mul_ps(a.hi, _mm256_castsi256_ps(hi))};
}
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  return {_mm256_blendv_ps(if_false.lo, if_true.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(if_false.hi, if_true.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
inline F32x16 KeepLanes(F32x16 a, int n, F32x16 others) {
  return {_mm256_blendv_ps(others.lo, a.lo, _mm256_castsi256_ps(detail::LaneMask(n))),
          _mm256_blendv_ps(others.hi, a.hi, _mm256_castsi256_ps(detail::LaneMask(n - 8)))};
}
namespace detail {
inline __m256 FromBf16(__m128i x) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16)); }
inline __m128i RoundToBf16(__m256 x) {
  const __m256i u = _mm256_castps_si256(x);
  const __m256i high = _mm256_srli_epi32(u, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i y = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(y, y), 0x08);
  return _mm256_castsi256_si128(packed);
}
}  // namespace detail
inline F32x16 Load(const Bf16* p) {
  return {detail::FromBf16(_mm_loadu_si128((const __m128i*)p)), detail::FromBf16(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
inline F32x16 LoadPart(const Bf16* p, int n) {
  alignas(32) Bf16 buffer[16] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return Load(buffer);
}
inline void Store(Bf16* p, F32x16 x) {
  _mm_storeu_si128((__m128i*)p, detail::RoundToBf16(x.lo));
  _mm_storeu_si128((__m128i*)(p + 8), detail::RoundToBf16(x.hi));
}
inline void StorePart(Bf16* p, F32x16 x, int n) {
  alignas(32) Bf16 buffer[16];
  Store(buffer, x);
  for (int i = 0; i < n; ++i) p[i] = buffer[i];
}
inline float Sum(F32x16 a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

#else  // portable: plain x86-64

struct F32x16 {
  float v[kLanes];
};
#define CONCLAVE_EACH_LANE_(expression)              \
  F32x16 y;                                          \
  for (int i = 0; i < kLanes; ++i) y.v[i] = expression; \
  return y
inline F32x16 Set(float x) { CONCLAVE_EACH_LANE_(x); }
inline F32x16 Load(const float* p) { CONCLAVE_EACH_LANE_(p[i]); }
inline F32x16 LoadPart(const float* p, int n) { CONCLAVE_EACH_LANE_(i < n ? p[i] : 0.0f); }
inline void Store(float* p, F32x16 x) {
  for (int i = 0; i < kLanes; ++i) p[i] = x.v[i];
}
inline void StorePart(float* p, F32x16 x, int n) {
  for (int i = 0; i < n; ++i) p[i] = x.v[i];
}
inline F32x16 operator+(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] + b.v[i]); }
inline F32x16 operator-(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] - b.v[i]); }
inline F32x16 operator*(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] * b.v[i]); }
inline F32x16 operator/(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] / b.v[i]); }
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { CONCLAVE_EACH_LANE_(__builtin_fmaf(a.v[i], b.v[i], c.v[i])); }
inline F32x16 FmaNeg(F32x16 a, F32x16 b, F32x16 c) { CONCLAVE_EACH_LANE_(__builtin_fmaf(-a.v[i], b.v[i], c.v[i])); }
inline F32x16 Max(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
inline F32x16 Min(F32x16 a, F32x16 b) { CONCLAVE_EACH_LANE_(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
inline F32x16 Sqrt(F32x16 a) { CONCLAVE_EACH_LANE_(_mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a.v[i])))); }
namespace detail {
inline float RoundEvenScalar(float x) {  // adding 1.5 * 2^23 rounds to an integer; larger values are integers already
  if (!(x < 0x1p22f && x > -0x1p22f)) return x;
  const volatile float shifted = x + 0x1.8p23f;
  const float rounded = shifted - 0x1.8p23f;
  return __builtin_copysignf(rounded, x);
}
}  // namespace detail
inline F32x16 RoundEven(F32x16 a) { CONCLAVE_EACH_LANE_(detail::RoundEvenScalar(a.v[i])); }
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 n) {
  CONCLAVE_EACH_LANE_(a.v[i] * std::bit_cast<float>((_mm_cvtss_si32(_mm_set_ss(n.v[i])) + 127) << 23));
}
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  CONCLAVE_EACH_LANE_(a.v[i] < b.v[i] ? if_true.v[i] : if_false.v[i]);
}
inline F32x16 KeepLanes(F32x16 a, int n, F32x16 others) { CONCLAVE_EACH_LANE_(i < n ? a.v[i] : others.v[i]); }
inline F32x16 Load(const Bf16* p) { CONCLAVE_EACH_LANE_(ToFloat(p[i])); }
inline F32x16 LoadPart(const Bf16* p, int n) { CONCLAVE_EACH_LANE_(i < n ? ToFloat(p[i]) : 0.0f); }
inline void Store(Bf16* p, F32x16 x) {
  for (int i = 0; i < kLanes; ++i) p[i] = ToBf16(x.v[i]);
}
inline void StorePart(Bf16* p, F32x16 x, int n) {
  for (int i = 0; i < n; ++i) p[i] = ToBf16(x.v[i]);
}
inline float Sum(F32x16 a) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) a.v[i] = a.v[i] + a.v[i + width];
  }
  return a.v[0];
}
#undef CONCLAVE_EACH_LANE_

#endif

// e^x for all lanes; relative error below 2e-7; 0 below -87.3 (results under 2^-126 are flushed), infinity above 88.7.
inline F32x16 Exp(F32x16 x) {
  const F32x16 clamped = Min(Set(88.72283f), Max(Set(-87.33654f), x));  // NaN passes: it stands second
  const F32x16 n = RoundEven(clamped * Set(1.44269504f));
  const F32x16 r = FmaNeg(n, Set(-2.12194440e-4f), FmaNeg(n, Set(0.693359375f), clamped));
  F32x16 p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  p = Fma(p, r * r, r) + Set(1.0f);
  // Two factors, because 2^128 is not a float.
  const F32x16 half = RoundEven(n * Set(0.5f));
  F32x16 y = ScaleByPowerOfTwo(ScaleByPowerOfTwo(p, half), n - half);
  y = SelectLess(x, Set(-87.33654f), Set(0.0f), y);
  return SelectLess(Set(88.72283f), x, Set(__builtin_inff()), y);
}

// 1 / (1 + e^-x)
inline F32x16 Sigmoid(F32x16 x) { return Set(1.0f) / (Set(1.0f) + Exp(Set(0.0f) - x)); }

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
