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

#include "core/device/cpu/amx.h"
#include "core/device/median_seconds.h"

namespace conclave::core::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kChains = 12;
constexpr int64_t kSteps = 300'000;  // about half a millisecond: short enough to run undisturbed at times
constexpr std::chrono::milliseconds kPatience{500};  // until such a time has come on a machine that others use

// Runs body(thread) on all threads at once. Returns the seconds from the moment at which the first begins to that at
// which the last is done: they wait for each other, so that starting threads does not count.
double SecondsOnThreads(int num_threads, const std::function<void(int)>& body) {
  std::vector<Clock::time_point> starts(static_cast<size_t>(num_threads)), ends = starts;
  std::atomic<int> missing{num_threads};
  const auto run = [&](int thread) {
    missing.fetch_sub(1);
    while (missing.load() > 0) std::this_thread::yield();
    starts[static_cast<size_t>(thread)] = Clock::now();
    body(thread);
    ends[static_cast<size_t>(thread)] = Clock::now();
  };
  {
    std::vector<std::jthread> threads;
    for (int i = 1; i < num_threads; ++i) threads.emplace_back(run, i);
    run(0);
  }
  const auto time = *std::max_element(ends.begin(), ends.end()) - *std::min_element(starts.begin(), starts.end());
  return std::chrono::duration<double>(time).count();
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

double AmxLoop() {  // zeros: tile registers take no longer for other values
  constexpr int64_t kProducts = kSteps / 18;
  ConfigureAmx();
  for (int64_t step = 0; step < kProducts; ++step) {
    asm volatile(
        "tdpbf16ps %tmm7, %tmm6, %tmm0\n\ttdpbf16ps %tmm7, %tmm6, %tmm1\n\ttdpbf16ps %tmm7, %tmm6, %tmm2\n\t"
        "tdpbf16ps %tmm7, %tmm6, %tmm3\n\ttdpbf16ps %tmm7, %tmm6, %tmm4\n\ttdpbf16ps %tmm7, %tmm6, %tmm5");
  }
  return 2.0 * 16 * 16 * 32 * 6 * kProducts;
}

using Loop = double (*)();

Loop F32Loop() {
  if (__builtin_cpu_supports("avx512f")) return FmaLoop512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return FmaLoop256;
  return MultiplyAddLoop128;
}

double FlopsOf(Loop loop, int num_threads) {
  std::vector<double> flops(static_cast<size_t>(num_threads));
  const double seconds = SecondsOnThreads(num_threads, [&](int i) { flops[static_cast<size_t>(i)] = loop(); });
  return std::accumulate(flops.begin(), flops.end(), 0.0) / seconds;
}

}  // namespace

double SamplePeakFlops(DType dtype, int num_threads) {
  if (dtype == DType::kBf16 && HasAmx()) return FlopsOf(AmxLoop, num_threads);
  const double f32 = FlopsOf(F32Loop(), num_threads);
  // bf16 values multiply as floats, too: where that is faster (Intel without AMX), it is the peak.
  if (dtype != DType::kBf16 || !__builtin_cpu_supports("avx512bf16")) return f32;
  return std::max(f32, FlopsOf(Bf16Loop512, num_threads));
}

double MeasurePeakFlops(DType dtype, int num_threads) {
  const Clock::time_point begin = Clock::now();
  double best = 0;
  while (Clock::now() - begin < kPatience) best = std::max(best, SamplePeakFlops(dtype, num_threads));
  return best;
}

double MeasureCopySeconds(double bytes, int num_threads) {
  const size_t part = static_cast<size_t>(bytes / 2 / num_threads) + 1;
  // Source and target of a thread stand an odd number of half pages apart: a load waits for a store that is under way
  // to an address with the same low 12 bits.
  constexpr size_t kPage = 4096;
  const size_t distance = (part + kPage - 1) / kPage * kPage + kPage / 2;
  std::vector<std::vector<char>> memory(static_cast<size_t>(num_threads), std::vector<char>(distance + part, 1));
  // So many that the system has time to give each thread a processor of its own.
  const int copies = static_cast<int>(std::clamp(0x1p28 / std::max(bytes, 1.0), 1.0, 500.0));
  const auto copy = [&](int thread) {
    char* const source = memory[static_cast<size_t>(thread)].data();
    for (int repeat = 0; repeat < copies; ++repeat) {
      std::memcpy(source + distance, source, part);
      asm volatile("" ::"r"(source) : "memory");
    }
  };
  return MedianOfRuns([&] { return SecondsOnThreads(num_threads, copy); }) / copies;
}

}  // namespace conclave::core::cpu
