// SPDX-License-Identifier: Apache-2.0
// Scores and sums of values of a few rows, from keys and values where they stand. With one query per sequence, as in
// decoding, panels would cost several times what is done with them. Each element is the same chain of multiply-adds as
// in the tile kernel (gemm_tile.h), so the bits are the same: lanes are keys for scores, which takes a transposition in
// registers, and places of the head for values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/device/cpu/attention_block.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int kFewRows = 4;          // at once
inline constexpr int64_t kMostFewRows = 8;  // up to which it is worth transposing keys anew for each four

// Where operands are pairs, the tile kernel's chain is one of pairs: panels it is.
template <class T>
inline constexpr bool kHasFewRows = kStepDepth<T> == 1;

// Consecutive elements of a row that a transposition takes: 16 bytes.
template <class T>
inline constexpr int kPieceColumns = static_cast<int>(16 / sizeof(T));

#if defined(__AVX2__)
namespace detail {
// Words 0 to 3 of rows 0 to 7: words[j] lane i = word j of row(i). row: int -> a pointer.
template <class Row>
[[gnu::always_inline]] inline void TransposeWords(const Row& row, __m256 (&words)[4]) {
  const auto rows = [&](int i) __attribute__((always_inline)) {
    const __m128 low = _mm_loadu_ps(reinterpret_cast<const float*>(row(i)));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), _mm_loadu_ps(reinterpret_cast<const float*>(row(i + 4))),
                                1);
  };
  const __m256 r0 = rows(0), r1 = rows(1), r2 = rows(2), r3 = rows(3);
  const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(r0, r1)),
                low23 = _mm256_castps_pd(_mm256_unpacklo_ps(r2, r3));
  const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(r0, r1)),
                high23 = _mm256_castps_pd(_mm256_unpackhi_ps(r2, r3));
  words[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23));
  words[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23));
  words[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23));
  words[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23));
}
inline F32x16 Join(__m256 low, __m256 high) {
#if defined(__AVX512F__)
  return {
      _mm512_castpd_ps(_mm512_insertf64x4(_mm512_castps_pd(_mm512_castps256_ps512(low)), _mm256_castps_pd(high), 1))};
#else
  return {low, high};
#endif
}
inline __m256 LowHalves(__m256 words) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(words), 16)); }
inline __m256 HighHalves(__m256 words) {
  return _mm256_and_ps(words, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
}  // namespace detail
#endif

// Lane i = row(i)[0], one by one.
template <class T, class Row>
F32x16 LoadColumn(const Row& row) {
  alignas(64) T lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = *row(i);
  return Load(lanes);
}

// columns[j] lane i = row(i)[j]. row: int -> const T*.
template <class T, class Row>
[[gnu::always_inline]] inline void LoadColumns(const Row& row, F32x16 (&columns)[kPieceColumns<T>]) {
#if defined(__AVX2__)
  __m256 low[4], high[4];
  detail::TransposeWords(row, low);
  detail::TransposeWords(
      [&](int i) __attribute__((always_inline)) { return row(i + 8); }, high);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    if constexpr (sizeof(T) == sizeof(float)) {
      columns[j] = detail::Join(low[j], high[j]);
    } else {
      columns[2 * j] = detail::Join(detail::LowHalves(low[j]), detail::LowHalves(high[j]));
      columns[2 * j + 1] = detail::Join(detail::HighHalves(low[j]), detail::HighHalves(high[j]));
    }
  }
#else
  for (int j = 0; j < kPieceColumns<T>; ++j) columns[j] = LoadColumn<T>([&](int i) { return row(i) + j; });
#endif
}

// sum[v][m] lane i += q[m][0, width) . row(16 v + i)[0, width), in ascending order.
template <class T, int kVectors, int kRows, class Row>
[[gnu::always_inline]] inline void AddProducts(const Row& row, int64_t width, const float* q, int64_t q_stride,
                                               F32x16 (&sum)[kVectors][kRows]) {
  constexpr int kPiece = kPieceColumns<T>;
  int64_t k = 0;
  for (; k + kPiece <= width; k += kPiece) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      F32x16 columns[kPiece];
      LoadColumns<T>(
          [&](int i) __attribute__((always_inline)) { return row(v * kLanes + i) + k; }, columns);
#pragma GCC unroll 8
      for (int j = 0; j < kPiece; ++j) {
#pragma GCC unroll 4
        for (int m = 0; m < kRows; ++m) sum[v][m] = Fma(Set(q[m * q_stride + k + j]), columns[j], sum[v][m]);
      }
    }
  }
  for (; k < width; ++k) {
    for (int v = 0; v < kVectors; ++v) {
      const F32x16 column = LoadColumn<T>([&](int i) { return row(v * kLanes + i) + k; });
      for (int m = 0; m < kRows; ++m) sum[v][m] = Fma(Set(q[m * q_stride + k]), column, sum[v][m]);
    }
  }
}

// scores[m][key] = q[m] . key for kRows rows of q and `count` keys; [kRows][96], with more lanes written than keys.
template <class T, int kRows>
void FewScores(const KeyParts<T>& keys, int64_t count, const float* q, int64_t q_stride, float* scores) {
  constexpr int kVectors = kRows == 1 ? 2 : 1;  // at once: chains enough
  constexpr int64_t kKeys = kVectors * kLanes;
  for (int64_t first = 0; first < count; first += kKeys) {
    F32x16 sum[kVectors][kRows];
    for (auto& vector : sum) {
      for (F32x16& x : vector) x = Set(0.0f);
    }
    const auto add = [&](const auto& rows_of) {
      AddProducts<T>(rows_of(keys.own), keys.own_depth, q, q_stride, sum);
      AddProducts<T>(rows_of(keys.shared), keys.shared_depth, q + keys.own_depth, q_stride, sum);
    };
    if (const int64_t last = count - first - 1; last >= kKeys - 1) {
      add([&](const RowsView<T>& rows) {
        return [from = rows.data + first * rows.stride, stride = rows.stride](int i) { return from + i * stride; };
      });
    } else {  // the last key in place of those that do not exist
      add([&](const RowsView<T>& rows) {
        return [from = rows.data + first * rows.stride, stride = rows.stride, last](int i) {
          return from + std::min<int64_t>(i, last) * stride;
        };
      });
    }
    for (int v = 0; v < kVectors; ++v) {
      for (int m = 0; m < kRows; ++m) Store(scores + m * kKeyBlock + first + v * kLanes, sum[v][m]);
    }
  }
}

// Memory that is read next, brought close while something else is worked on: in one run, whatever the heads. Hardware
// does not see what comes where keys of a head stand apart, and memory is slow to jump.
struct KeysAhead {
  const char* data = nullptr;
  int64_t bytes = 0;
};

// Brings the `count` bytes from `data` on close. Always inlined: see FetchRows.
[[gnu::always_inline]] inline void FetchBytes(const void* data, int64_t count) {
  constexpr int64_t kLine = 64;
  for (int64_t byte = 0; byte < count; byte += kLine) __builtin_prefetch(static_cast<const char*>(data) + byte);
}

// sums[m][n] (+)= weights[m] . column n of `count` values; weights [kRows][96], sums [kRows][width].
template <class T, int kRows>
void AddFewValues(RowsView<T> values, int64_t count, int64_t width, const float* weights, float* sums, bool accumulate,
                  const KeysAhead& ahead) {
  const auto add = [&](int64_t n, auto lanes, auto num_vectors) {
    constexpr int kCount = decltype(num_vectors)::value;
    F32x16 sum[kRows][kCount];
    for (int m = 0; m < kRows; ++m) {
      for (int v = 0; v < kCount; ++v) {
        sum[m][v] = accumulate ? LoadLanes(sums + m * width + n + v * kLanes, lanes) : Set(0.0f);
      }
    }
    const char* next = ahead.data + ahead.bytes * n / width;
    const int64_t piece = ahead.bytes * kCount * kLanes / (width * count);
    for (int64_t key = 0; key < count; ++key, next += piece) {
      const T* value = values.data + key * values.stride + n;
      FetchBytes(next, piece);
#pragma GCC unroll 4
      for (int v = 0; v < kCount; ++v) {
        const F32x16 x = LoadLanes(value + v * kLanes, lanes);
#pragma GCC unroll 4
        for (int m = 0; m < kRows; ++m) sum[m][v] = Fma(Set(weights[m * kKeyBlock + key]), x, sum[m][v]);
      }
    }
    for (int m = 0; m < kRows; ++m) {
      for (int v = 0; v < kCount; ++v) StoreLanes(sums + m * width + n + v * kLanes, sum[m][v], lanes);
    }
  };
  int64_t n = 0;
  const auto add_whole = [&](auto num_vectors) {
    for (; n + num_vectors * kLanes <= width; n += num_vectors * kLanes) add(n, WholeVector{}, num_vectors);
  };
  if constexpr (kRows == 1) add_whole(std::integral_constant<int, 4>{});  // at once: chains enough
  if constexpr (kRows <= 2) add_whole(std::integral_constant<int, 2>{});
  add_whole(std::integral_constant<int, 1>{});
  if (n < width) add(n, PartOfVector{static_cast<int>(width - n)}, std::integral_constant<int, 1>{});
}

// body(number of rows as a type), 1 <= rows <= kFewRows.
template <class Body>
void DispatchFewRows(int64_t rows, const Body& body) {
  switch (rows) {
    case 1:
      return body(std::integral_constant<int, 1>{});
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 3:
      return body(std::integral_constant<int, 3>{});
    default:
      return body(std::integral_constant<int, kFewRows>{});
  }
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
