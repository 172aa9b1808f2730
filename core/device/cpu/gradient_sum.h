// SPDX-License-Identifier: Apache-2.0
// From one f32 contribution to the sum of a gradient. A 64-bit sum (core/base/fixed_sum.h): scale by 2^50, round to
// nearest-even, add. AVX-512 has the conversion as an instruction; AVX2 splits the scaled value s into s = high 2^31 +
// low, both exact, where high 2^31 is even, so rounding low alone rounds s. All targets give the same integers for |x|
// < 2^12. An f32 sum: one float addition. The type of the sum chooses; the rest of an operation is the same for both.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/base/check.h"
#include "core/device/cpu/simd.h"
#include "core/tensor/dtype.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

// body(int64_t{}) or body(float{}): the type of a gradient's sums.
template <class Body>
void DispatchSum(DType dtype, Body&& body) {
  if (dtype == DType::kF32) return body(float{});
  CHECK(dtype == DType::kI64);
  body(int64_t{});
}

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

// Per lane the bits of both. A float is below 2 in magnitude exactly if it lacks the highest bit of the exponent, and
// is no NaN then: |any| < 2 for the bits of many vectors tells that of all of them.
inline F32x16 JoinBits(F32x16 a, F32x16 b) {
#if defined(__AVX512F__)
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(a.v), _mm512_castps_si512(b.v)))};
#elif defined(__AVX2__)
  return {_mm256_or_ps(a.lo, b.lo), _mm256_or_ps(a.hi, b.hi)};
#else
  for (int i = 0; i < kLanes; ++i) {
    a.v[i] = std::bit_cast<float>(std::bit_cast<uint32_t>(a.v[i]) | std::bit_cast<uint32_t>(b.v[i]));
  }
  return a;
#endif
}

// sum[i] += round(x[i] * 2^50) for the 16 lanes; sum may be unaligned. What lanes beyond 2^12 add is unspecified
// (the caller has set the flag that makes the step void).
inline void AddToSum(int64_t* sum, F32x16 x) {
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
inline void AddToSum(float* sum, F32x16 x) { Store(sum, Load(sum) + x); }

// The same for |x| < 2, where AVX2 has a shorter way: added to 6, a double's mantissa counts units of 2^-50, rounded to
// nearest-even as the bits of 6 are even.
inline void AddSmallToSum(int64_t* sum, const float* x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256d six = _mm256_set1_pd(6.0);
  for (int i = 0; i < kLanes; i += 4) {
    const __m256i counted = _mm256_castpd_si256(_mm256_add_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + i)), six));
    const __m256i value = _mm256_sub_epi64(counted, _mm256_castpd_si256(six));
    __m256i* out = reinterpret_cast<__m256i*>(sum + i);
    _mm256_storeu_si256(out, _mm256_add_epi64(_mm256_loadu_si256(out), value));
  }
#else
  AddToSum(sum, Load(x));
#endif
}
inline void AddSmallToSum(float* sum, const float* x) { AddToSum(sum, Load(x)); }

// The first n lanes only.
inline void AddPartToSum(int64_t* sum, F32x16 x, int n) {
  alignas(64) int64_t buffer[kLanes] = {};
  AddToSum(buffer, x);
  for (int i = 0; i < n; ++i)
    sum[i] = static_cast<int64_t>(static_cast<uint64_t>(sum[i]) + static_cast<uint64_t>(buffer[i]));
}
inline void AddPartToSum(float* sum, F32x16 x, int n) { StorePart(sum, LoadPart(sum, n) + x, n); }

// What AddTileToSum works on. Whole: the type of the number of columns in whole vectors, a constant where it is all 48.
template <class Sum, class Whole>
struct SumTile {
  int64_t rows;
  Whole whole;
  int rest;  // columns behind them
  const float* c;
  int64_t ldc;
  Sum* sum;
  int64_t stride;

  // body(sum, c) for each whole vector, part(sum, x) for those at the ends of rows.
  template <class Body, class Part>
  void ForEach(const Body& body, const Part& part) const {
    const float* from = c;
    Sum* to = sum;
    for (const float* end = c + rows * ldc; from != end; from += ldc, to += stride) {
      for (int n = 0; n < whole; n += kLanes) body(to + n, from + n);
      if (rest > 0) part(to + whole, LoadPart(from + whole, rest));
    }
  }

  // True if any contribution is beyond.
  bool Add(float limit) const {
    F32x16 bits = Set(0.0f);
    ForEach([&](Sum*, const float* x) { bits = JoinBits(bits, Load(x)); },
            [&](Sum*, F32x16 x) { bits = JoinBits(bits, x); });
    const bool small = !AnyBeyond(bits, 2.0f);
    const auto add_part = [&](Sum* to, F32x16 x) { AddPartToSum(to, x, rest); };
    if (small) {
      ForEach([](Sum* to, const float* x) { AddSmallToSum(to, x); }, add_part);
    } else {
      ForEach([](Sum* to, const float* x) { AddToSum(to, Load(x)); }, add_part);
    }
    if (small && limit >= 2.0f) return false;
    bool beyond = false;
    ForEach([&](Sum*, const float* x) { beyond |= AnyBeyond(Load(x), limit); },
            [&](Sum*, F32x16 x) { beyond |= AnyBeyond(x, limit); });
    return beyond;
  }
};

// Adds c[m * ldc + n] to sum[m * stride + n] for m < rows, n < columns. True if any c is NaN or |c| >= limit.
template <class Sum>
bool AddTileToSum(int64_t rows, int columns, const float* c, int64_t ldc, Sum* sum, int64_t stride, float limit) {
  constexpr std::integral_constant<int, 3 * kLanes> kAll;
  if (columns == kAll) return SumTile{rows, kAll, 0, c, ldc, sum, stride}.Add(limit);
  const int rest = columns % kLanes;
  return SumTile{rows, columns - rest, rest, c, ldc, sum, stride}.Add(limit);
}

// Reports a void step: any thread may call it.
inline void SetFlag(int32_t* flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
