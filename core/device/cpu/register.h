// SPDX-License-Identifier: Apache-2.0
// One register of f32 lanes, as wide as the target has them: what the tile kernel (gemm_tile.h) counts in. Everything
// else works on 16 virtual lanes (simd.h).
#pragma once

#include "core/device/cpu/simd.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

#if defined(__AVX2__) && !defined(__AVX512F__)

struct Register {
  static constexpr int kWidth = 8;
  __m256 v;
};
inline Register Broadcast(float x) { return {_mm256_set1_ps(x)}; }
inline Register LoadRegister(const float* p) { return {_mm256_loadu_ps(p)}; }
inline Register LoadRegister(const float* p, int n) { return {_mm256_maskload_ps(p, detail::LaneMask(n))}; }
inline void StoreRegister(float* p, Register x) { _mm256_storeu_ps(p, x.v); }
inline void StoreRegister(float* p, Register x, int n) { _mm256_maskstore_ps(p, detail::LaneMask(n), x.v); }
inline Register Fma(Register a, Register b, Register c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }

#else

struct Register : F32x16 {
  static constexpr int kWidth = kLanes;
};
inline Register Broadcast(float x) { return {Set(x)}; }
inline Register LoadRegister(const float* p) { return {Load(p)}; }
inline Register LoadRegister(const float* p, int n) { return {LoadPart(p, n)}; }  // the first n lanes, else 0
inline void StoreRegister(float* p, Register x) { Store(p, x); }
inline void StoreRegister(float* p, Register x, int n) { StorePart(p, x, n); }
inline Register Fma(Register a, Register b, Register c) {
  return {Fma(static_cast<F32x16>(a), static_cast<F32x16>(b), static_cast<F32x16>(c))};
}

#endif

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
