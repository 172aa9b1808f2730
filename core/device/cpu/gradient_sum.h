// SPDX-License-Identifier: Apache-2.0
// From one f32 contribution to the 64-bit sum of a gradient (core/base/fixed_sum.h): scale by 2^50, round to nearest-even,
// add. AVX-512 has the conversion as an instruction; AVX2 splits the scaled value s into s = high 2^31 + low, both exact,
// where high 2^31 is even, so rounding low alone rounds s. All targets give the same integers for |x| < 2^12.
#pragma once

#include "core/device/cpu/simd.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

// True if any lane of x is NaN or |x| >= limit.
inline bool AnyBeyond(F32x16 x, float limit) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(_mm512_abs_ps(x.v), _mm512_set1_ps(limit), _CMP_NLT_UQ) != 0;
#elif defined(__AVX2__)
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), bound = _mm256_set1_ps(limit);
  const __m256 lo = _mm256_cmp_ps(_mm256_and_ps(x.lo, magnitude), bound, _CMP_NLT_UQ);
  const __m256 hi = _mm256_cmp_ps(_mm256_and_ps(x.hi, magnitude), bound, _CMP_NLT_UQ);
  return _mm256_movemask_ps(_mm256_or_ps(lo, hi)) != 0;
#else
  for (int i = 0; i < kLanes; ++i) {
    if (!(__builtin_fabsf(x.v[i]) < limit)) return true;
  }
  return false;
#endif
}

// Per lane the larger magnitude, as bits without the sign: NaN is above all. To look at many vectors with one AnyBeyond;
// `a` has no signs (start from zeros).
inline F32x16 LargerMagnitude(F32x16 a, F32x16 x) {
#if defined(__AVX512F__)
  return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a.v), _mm512_castps_si512(_mm512_abs_ps(x.v))))};
#elif defined(__AVX2__)
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  const __m256i lo = _mm256_and_si256(_mm256_castps_si256(x.lo), magnitude);
  const __m256i hi = _mm256_and_si256(_mm256_castps_si256(x.hi), magnitude);
  return {_mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a.lo), lo)),
          _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(a.hi), hi))};
#else
  for (int i = 0; i < kLanes; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x.v[i]) & 0x7fffffff;
    if (bits > std::bit_cast<int32_t>(a.v[i])) a.v[i] = std::bit_cast<float>(bits);
  }
  return a;
#endif
}

// sum[i] += round(x[i] * 2^50) for the 16 lanes; sum may be unaligned. What lanes beyond 2^12 add is unspecified
// (the caller has set the flag that makes the step void).
inline void AddFixed(int64_t* sum, F32x16 x) {
  const F32x16 scaled = x * Set(0x1p50f);
#if defined(__AVX512F__)
  const __m256 low = _mm512_castps512_ps256(scaled.v);
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(scaled.v), 1));
  const __m512i a = _mm512_cvtps_epi64(low), b = _mm512_cvtps_epi64(high);
  _mm512_storeu_si512(sum, _mm512_add_epi64(_mm512_loadu_si512(sum), a));
  _mm512_storeu_si512(sum + 8, _mm512_add_epi64(_mm512_loadu_si512(sum + 8), b));
#elif defined(__AVX2__)
  const F32x16 high = RoundEven(scaled * Set(0x1p-31f));
  const F32x16 low = FmaNeg(high, Set(0x1p31f), scaled);
  const __m256i high32[2] = {_mm256_cvtps_epi32(high.lo), _mm256_cvtps_epi32(high.hi)};
  const __m256i low32[2] = {_mm256_cvtps_epi32(low.lo), _mm256_cvtps_epi32(low.hi)};
  for (int i = 0; i < 4; ++i) {
    const __m128i h = i % 2 ? _mm256_extracti128_si256(high32[i / 2], 1) : _mm256_castsi256_si128(high32[i / 2]);
    const __m128i l = i % 2 ? _mm256_extracti128_si256(low32[i / 2], 1) : _mm256_castsi256_si128(low32[i / 2]);
    const __m256i value = _mm256_add_epi64(_mm256_slli_epi64(_mm256_cvtepi32_epi64(h), 31), _mm256_cvtepi32_epi64(l));
    __m256i* out = reinterpret_cast<__m256i*>(sum + 4 * i);
    _mm256_storeu_si256(out, _mm256_add_epi64(_mm256_loadu_si256(out), value));
  }
#else
  for (int i = 0; i < kLanes; ++i) {
    sum[i] = static_cast<int64_t>(static_cast<uint64_t>(sum[i]) +
                                  static_cast<uint64_t>(_mm_cvtss_si64(_mm_set_ss(scaled.v[i]))));
  }
#endif
}

// The first n lanes only.
inline void AddFixedPart(int64_t* sum, F32x16 x, int n) {
  alignas(64) int64_t buffer[kLanes] = {};
  AddFixed(buffer, x);
  for (int i = 0; i < n; ++i) sum[i] = static_cast<int64_t>(static_cast<uint64_t>(sum[i]) + static_cast<uint64_t>(buffer[i]));
}

// Reports a void step: any thread may call it.
inline void SetFlag(int32_t* flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
