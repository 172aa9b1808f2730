// SPDX-License-Identifier: Apache-2.0
// Transposition of blocks of 32-bit words (floats, or pairs of bf16) in AVX-512 registers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/device/cpu/simd.h"

#if defined(__AVX512F__)

namespace conclave::core::cpu::CONCLAVE_TARGET {

// Up to 16 rows of up to 16 words, which stand `stride` words apart.
struct WordBlock {
  const uint32_t* first;
  int64_t stride;
  int rows, columns;
};

// Word (i, j) of the block to out[j * out_stride + i], for all j < 16 and i < width <= 16; zeros where there is none.
inline void TransposeBlock(const WordBlock& block, uint32_t* out, int64_t out_stride, int width) {
  constexpr int kSide = 16;
  const __mmask16 columns = FirstLanes(block.columns), words = FirstLanes(width);
  __m512i x[kSide], y[kSide];
  for (int i = 0; i < kSide; ++i) {
    x[i] = i < block.rows ? _mm512_maskz_loadu_epi32(columns, block.first + i * block.stride) : __m512i{};
  }
  // Pairs of rows by words, fours by pairs of words, then lanes of 128 bits.
#pragma GCC unroll 8
  for (int i = 0; i < kSide; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kSide; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
  const auto store = [&](int j, __m512i row) { _mm512_mask_storeu_epi32(out + j * out_stride, words, row); };
  // x[4 g + w] lane l: rows 4 g to 4 g + 3 of column 4 l + w.
#pragma GCC unroll 4
  for (int w = 0; w < 4; ++w) {
    const __m512i low02 = _mm512_shuffle_i32x4(x[w], x[4 + w], 0x88),
                  low13 = _mm512_shuffle_i32x4(x[w], x[4 + w], 0xdd);
    const __m512i high02 = _mm512_shuffle_i32x4(x[8 + w], x[12 + w], 0x88);
    const __m512i high13 = _mm512_shuffle_i32x4(x[8 + w], x[12 + w], 0xdd);
    store(w, _mm512_shuffle_i32x4(low02, high02, 0x88));
    store(4 + w, _mm512_shuffle_i32x4(low13, high13, 0x88));
    store(8 + w, _mm512_shuffle_i32x4(low02, high02, 0xdd));
    store(12 + w, _mm512_shuffle_i32x4(low13, high13, 0xdd));
  }
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET

#endif
