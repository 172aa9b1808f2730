// SPDX-License-Identifier: Apache-2.0
// 12 independent chains, unrolled into registers, hide the latency of two units.
#include "core/device/cpu/peak.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <thread>
#include <vector>

#include "core/device/median_seconds.h"

namespace conclave::core::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kChains = 12;
constexpr int64_t kSteps = 300'000;  // about half a millisecond: short enough to run undisturbed at times
constexpr std::chrono::milliseconds kPatience{500};  // until such a time has come on a machine that others use

// Runs body(thread) on all threads at once.
void OnThreads(int num_threads, const std::function<void(int)>& body) {
  std::vector<std::jthread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(body, i);
  body(0);
}

// ---- Each loop returns its FLOPs. -----------------------------------------------------------------------------------
__attribute__((target("avx512f"))) double FmaLoop512() {
  __m512 sums[kChains];
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * 16 * kChains * kSteps;
}

__attribute__((target("avx2,fma"))) double FmaLoop256() {
  __m256 sums[kChains];
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], a, b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * 8 * kChains * kSteps;
}

double MultiplyAddLoop128() {
  __m128 sums[kChains];
  const __m128 a = _mm_set1_ps(0.999f), b = _mm_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm_add_ps(_mm_mul_ps(sums[i], a), b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * 4 * kChains * kSteps;
}

__attribute__((target("avx512f,avx512bf16"))) double Bf16Loop512() {
  __m512 sums[kChains];
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, a);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 4.0 * 16 * kChains * kSteps;
}

using Loop = double (*)();

Loop BestLoop(DType dtype) {
  if (dtype == DType::kBf16 && __builtin_cpu_supports("avx512bf16")) return Bf16Loop512;
  if (__builtin_cpu_supports("avx512f")) return FmaLoop512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return FmaLoop256;
  return MultiplyAddLoop128;
}

// FLOP/s from the moment at which the first thread begins to that at which the last one is done. They wait for each
// other, so that starting threads does not count.
double FlopsOfOneTry(Loop loop, int num_threads) {
  std::vector<Clock::time_point> starts(static_cast<size_t>(num_threads)), ends = starts;
  std::vector<double> flops(static_cast<size_t>(num_threads));
  std::atomic<int> missing{num_threads};
  OnThreads(num_threads, [&](int thread) {
    const size_t i = static_cast<size_t>(thread);
    missing.fetch_sub(1);
    while (missing.load() > 0) std::this_thread::yield();
    starts[i] = Clock::now();
    flops[i] = loop();
    ends[i] = Clock::now();
  });
  const auto time = *std::max_element(ends.begin(), ends.end()) - *std::min_element(starts.begin(), starts.end());
  return std::accumulate(flops.begin(), flops.end(), 0.0) / std::chrono::duration<double>(time).count();
}

}  // namespace

double MeasurePeakFlops(DType dtype, int num_threads) {
  const Loop loop = BestLoop(dtype);
  const Clock::time_point begin = Clock::now();
  double best = 0;
  while (Clock::now() - begin < kPatience) best = std::max(best, FlopsOfOneTry(loop, num_threads));
  return best;
}

double MeasureCopySeconds(double bytes, int num_threads) {
  const size_t part = static_cast<size_t>(bytes / 2 / num_threads) + 1;
  std::vector<std::vector<char>> from(static_cast<size_t>(num_threads), std::vector<char>(part, 1)), to = from;
  if (num_threads == 1) return MedianSeconds([&] { std::memcpy(to[0].data(), from[0].data(), part); });
  // So many that starting threads costs nothing beside them.
  const int copies = static_cast<int>(std::clamp(0x1p28 / std::max(bytes, 1.0), 1.0, 20.0));
  return MedianSeconds([&] {
           OnThreads(num_threads, [&](int thread) {
             const size_t i = static_cast<size_t>(thread);
             for (int copy = 0; copy < copies; ++copy) {
               std::memcpy(to[i].data(), from[i].data(), part);
               asm volatile("" ::"r"(to[i].data()) : "memory");
             }
           });
         }) /
         copies;
}

}  // namespace conclave::core::cpu
