// SPDX-License-Identifier: Apache-2.0
// Sixteen virtual f32 lanes: one AVX-512 register, two AVX2 registers, or an array. Every file of this folder is compiled
// once per target (CMakeLists.txt) with CONCLAVE_TARGET naming the namespace; the operations below give the same bits on
// all of them. Reductions over lanes use one tree: i with i + 8, i + 4, i + 2, i + 1.
#pragma once

#include <immintrin.h>

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
// a * 2^n where n is the integer in the lowest bits of t = 1.5 * 2^23 + n. The result must be normal.
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 t) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(t.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), exponent))};
}
// if_true where a < b, else if_false.
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), if_false.v, if_true.v)};
}
// Bit i: a < b in lane i.
inline uint32_t MaskLess(F32x16 a, F32x16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ); }
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
// Rounded to bf16, kept as floats.
inline F32x16 RoundedToBf16(F32x16 x) {
  const __m512i u = _mm512_castps_si512(x.v), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_mask_blend_epi32(nan, r, quiet), upper))};
}
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
inline float Largest(F32x16 a) { return _mm512_reduce_max_ps(a.v); }  // of all lanes; no NaN

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
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 t) {
  const __m256i lo = _mm256_slli_epi32(_mm256_castps_si256(t.lo), 23);
  const __m256i hi = _mm256_slli_epi32(_mm256_castps_si256(t.hi), 23);
  return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.lo), lo)),
          _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.hi), hi))};
}
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  return {_mm256_blendv_ps(if_false.lo, if_true.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(if_false.hi, if_true.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
inline uint32_t MaskLess(F32x16 a, F32x16 b) {
  const int lo = _mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ));
  return static_cast<uint32_t>(lo | _mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)) << 8);
}
inline F32x16 KeepLanes(F32x16 a, int n, F32x16 others) {
  return {_mm256_blendv_ps(others.lo, a.lo, _mm256_castsi256_ps(detail::LaneMask(n))),
          _mm256_blendv_ps(others.hi, a.hi, _mm256_castsi256_ps(detail::LaneMask(n - 8)))};
}
namespace detail {
// Each value to the upper half of its lane, in one shuffle: of 128 bits that the load has put into both halves.
inline __m256 FromBf16(const Bf16* p) {
  const __m256i order = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7,  //
                                         -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  const __m256i values = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(values, order));
}
// NaN as its upper half, made quiet; others as they are.
inline __m256 CutNan(__m256 x) {
  const __m256 quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x400000)));
  const __m256 upper = _mm256_and_ps(quiet, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  return _mm256_blendv_ps(x, upper, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}
inline __m256 RoundedToBf16(__m256 x) {  // no NaN, or one that is cut
  const __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(_mm256_and_si256(r, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
// Adds 1 to the upper half where the lower one is above 0x8000, or equal to it and the upper one odd: that is the
// highest bit of the lower half after it has lost 1 if the upper one is even.
[[gnu::always_inline]] inline __m256i RoundToBf16(F32x16 x) {
  if (_mm256_movemask_ps(_mm256_cmp_ps(x.lo, x.hi, _CMP_UNORD_Q)) != 0) [[unlikely]] x = {CutNan(x.lo), CutNan(x.hi)};
  const __m256i a = _mm256_castps_si256(x.lo), b = _mm256_castps_si256(x.hi);
  const __m256i upper = _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa);  // a0 b0 a1 b1 ...
  const __m256i lower = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
  const __m256i is_even = _mm256_andnot_si256(upper, _mm256_set1_epi16(1));
  const __m256i carry = _mm256_srli_epi16(_mm256_subs_epu16(lower, is_even), 15);
  const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,  //
                                         0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  return _mm256_permute4x64_epi64(_mm256_shuffle_epi8(_mm256_add_epi16(upper, carry), order), 0xd8);
}
}  // namespace detail
inline F32x16 RoundedToBf16(F32x16 x) {
  if (_mm256_movemask_ps(_mm256_cmp_ps(x.lo, x.hi, _CMP_UNORD_Q)) != 0) [[unlikely]] {
    x = {detail::CutNan(x.lo), detail::CutNan(x.hi)};
  }
  return {detail::RoundedToBf16(x.lo), detail::RoundedToBf16(x.hi)};
}
inline F32x16 Load(const Bf16* p) { return {detail::FromBf16(p), detail::FromBf16(p + 8)}; }
inline F32x16 LoadPart(const Bf16* p, int n) {
  alignas(32) Bf16 buffer[16] = {};
  for (int i = 0; i < n; ++i) buffer[i] = p[i];
  return Load(buffer);
}
[[gnu::always_inline]] inline void Store(Bf16* p, F32x16 x) {
  _mm256_storeu_si256((__m256i*)p, detail::RoundToBf16(x));
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
inline float Largest(F32x16 a) {
  const __m256 m8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(m8), _mm256_extractf128_ps(m8, 1));
  const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
  return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
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
inline F32x16 ScaleByPowerOfTwo(F32x16 a, F32x16 t) {
  CONCLAVE_EACH_LANE_(std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[i]) + (std::bit_cast<uint32_t>(t.v[i]) << 23)));
}
inline F32x16 SelectLess(F32x16 a, F32x16 b, F32x16 if_true, F32x16 if_false) {
  CONCLAVE_EACH_LANE_(a.v[i] < b.v[i] ? if_true.v[i] : if_false.v[i]);
}
inline uint32_t MaskLess(F32x16 a, F32x16 b) {
  uint32_t mask = 0;
  for (int i = 0; i < kLanes; ++i) mask |= static_cast<uint32_t>(a.v[i] < b.v[i]) << i;
  return mask;
}
inline F32x16 KeepLanes(F32x16 a, int n, F32x16 others) { CONCLAVE_EACH_LANE_(i < n ? a.v[i] : others.v[i]); }
inline F32x16 RoundedToBf16(F32x16 x) { CONCLAVE_EACH_LANE_(ToFloat(ToBf16(x.v[i]))); }
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
inline float Largest(F32x16 a) {
  float largest = a.v[0];
  for (int i = 1; i < kLanes; ++i) largest = a.v[i] > largest ? a.v[i] : largest;
  return largest;
}
#undef CONCLAVE_EACH_LANE_

#endif

namespace detail {
struct ReducedExp {
  F32x16 t;  // 1.5 * 2^23 + n: adding 1.5 * 2^23 rounds to an integer and puts it into the lowest bits
  F32x16 s;  // e^x = 2^n (1 + s)
};
// |x| < 2^21; others give numbers without meaning.
inline ReducedExp ReduceExp(F32x16 x) {
  const F32x16 shift = Set(0x1.8p23f), t = x * Set(1.44269504f) + shift, n = t - shift;
  const F32x16 r = FmaNeg(n, Set(-2.12194440e-4f), FmaNeg(n, Set(0.693359375f), x));
  F32x16 p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  return {t, Fma(p, r * r, r)};
}
}  // namespace detail

// e^x for all lanes; relative error below 2e-7; 0 below -87.3 (results under 2^-126 are flushed), infinity above 88.7.
inline F32x16 Exp(F32x16 x) {
  const auto [t, s] = detail::ReduceExp(x);
  const F32x16 y = SelectLess(x, Set(-87.33654f), Set(0.0f), ScaleByPowerOfTwo(s + Set(1.0f), t));
  return SelectLess(x, Set(88.722839f), y, x + Set(__builtin_inff()));  // NaN is not less and stays NaN
}

// 1 / (1 + e^-x). Beyond the limits the quotient is 1 or flushed to 0 whatever the exponential is.
inline F32x16 Sigmoid(F32x16 x) {
  const F32x16 one = Set(1.0f);
  const auto [t, s] = detail::ReduceExp(Min(Set(88.0f), Max(Set(-87.0f), Set(0.0f) - x)));  // NaN passes: second
  const F32x16 scale = ScaleByPowerOfTwo(one, t);
  return one / (one + Fma(s, scale, scale));
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
