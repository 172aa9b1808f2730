// SPDX-License-Identifier: Apache-2.0
// op_bench [filter] [--threads N]: the time of every operation whose name contains `filter`, on the shapes of real
// models, against what this machine can do, measured in the same run: FMAs in registers (bf16: vdpbf16ps), and a memcpy
// of as many bytes as the operation touches. "of peak" = the time that the scarcer of the two would take / the time
// taken.
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "tests/ops/op_cases.h"
#include "tests/support/devices.h"
#include "tests/support/op_run.h"

namespace conclave::core::test {
namespace {

double Seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

constexpr double kNothingToDo = 3e-7;  // seconds

// Median of 10 or more runs; short ones are repeated for 0.2 seconds.
double MedianSeconds(const std::function<void()>& run) {
  run();
  std::vector<double> times;
  const double begin = Seconds();
  while (times.size() < 10 || (Seconds() - begin < 0.2 && times.size() < 1000)) {
    const double start = Seconds();
    run();
    times.push_back(Seconds() - start);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// Runs body(thread) on all threads at once.
void OnThreads(int num_threads, const std::function<void(int)>& body) {
  std::vector<std::jthread> threads;
  for (int i = 1; i < num_threads; ++i) threads.emplace_back(body, i);
  body(0);
}

// ---- The peaks: 12 independent chains, unrolled into registers, hide the latency of two units. Returned: FLOPs.
// --------
constexpr int kChains = 12;
constexpr int64_t kPeakSteps = 300'000;  // a few milliseconds: short enough to run undisturbed at times
constexpr int kPeakRepeats = 40;

__attribute__((target("avx512f"))) double FmaLoop512() {
  __m512 sums[kChains];
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * 16 * kChains * kPeakSteps;
}

__attribute__((target("avx2,fma"))) double FmaLoop256() {
  __m256 sums[kChains];
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm256_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm256_fmadd_ps(sums[i], a, b);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 2.0 * 8 * kChains * kPeakSteps;
}

__attribute__((target("avx512f,avx512bf16"))) double Bf16Loop() {
  __m512 sums[kChains];
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t step = 0; step < kPeakSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], a, a);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) asm volatile("" ::"x"(sums[i]));
  return 4.0 * 16 * kChains * kPeakSteps;
}

double PeakFlops(const std::function<double()>& loop, int num_threads) {
  double flops = 0;
  double best = 1e30;
  for (int repeat = 0; repeat < kPeakRepeats; ++repeat) {
    const double start = Seconds();
    OnThreads(num_threads, [&](int thread) {
      const double done = loop();
      if (thread == 0) flops = done * num_threads;
    });
    best = std::min(best, Seconds() - start);
  }
  return flops / best;
}

struct Peaks {
  double f32, bf16;  // FLOP/s

  explicit Peaks(int num_threads) {
    f32 = PeakFlops(__builtin_cpu_supports("avx512f") ? FmaLoop512 : FmaLoop256, num_threads);
    bf16 = __builtin_cpu_supports("avx512bf16") ? PeakFlops(Bf16Loop, num_threads) : f32;
  }
};

// Seconds to read and write `bytes` in all with memcpy: half of it is read, half written.
double CopySeconds(double bytes, int num_threads) {
  const size_t part = static_cast<size_t>(bytes / 2 / num_threads) + 1;
  std::vector<std::vector<char>> from(static_cast<size_t>(num_threads), std::vector<char>(part, 1)), to = from;
  if (num_threads == 1) return MedianSeconds([&] { std::memcpy(to[0].data(), from[0].data(), part); });
  constexpr int kCopies = 20;  // so that starting threads costs nothing
  return MedianSeconds([&] {
           OnThreads(num_threads, [&](int thread) {
             const size_t i = static_cast<size_t>(thread);
             for (int copy = 0; copy < kCopies; ++copy) {
               std::memcpy(to[i].data(), from[i].data(), part);
               asm volatile("" ::"r"(to[i].data()) : "memory");
             }
           });
         }) /
         kCopies;
}

void BenchmarkCase(const OpCase& c, const Shape& shape, DType dtype, Device& device, const Peaks& peaks,
                   int num_threads, std::string_view filter) {
  const auto selected = [&](const OpStep& step) {
    return c.name.find(filter) != std::string::npos || step.name.find(filter) != std::string::npos;
  };
  if (std::none_of(c.steps.begin(), c.steps.end(), selected)) return;
  const Problem problem = MakeProblem(c, shape, dtype);
  PlacedProblem placed(problem, device, Layout::kContiguous);
  placed.Run(c.steps);  // later steps need what earlier ones compute
  std::string sizes;
  for (int64_t size : shape) sizes += absl::StrFormat(" %d", size);
  absl::PrintF("%s (%s =%s)\n", c.name, c.dims, sizes);
  for (const OpStep& step : c.steps) {
    if (!selected(step)) continue;
    double bytes = 0;
    for (const std::string& name : step.touches) bytes += static_cast<double>(placed.Bytes(name));
    const double flops = step.flops ? step.flops(shape) : 0;
    const double seconds = MedianSeconds([&] { placed.Run({step}); });
    if (seconds < kNothingToDo) continue;  // a step that these options leave out
    const double compute = flops / (dtype == DType::kBf16 ? peaks.bf16 : peaks.f32);
    const double memory = CopySeconds(bytes, num_threads);
    absl::PrintF("  %-24s %-5s %10.1f us %8.1f GB/s %9.1f GFLOP/s %5.0f %% of peak (%s)\n", step.name, Name(dtype),
                 1e6 * seconds, 1e-9 * bytes / seconds, 1e-9 * flops / seconds,
                 100 * std::max(compute, memory) / seconds, compute > memory ? "compute" : "memory");
    std::fflush(stdout);
  }
}

int Main(int argc, char** argv) {
  std::string_view filter;
  int num_threads = 1;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--threads" && i + 1 < argc && absl::SimpleAtoi(argv[i + 1], &num_threads) &&
        num_threads > 0) {
      ++i;
    } else if (argv[i][0] != '-') {
      filter = argv[i];
    } else {
      absl::FPrintF(stderr, "usage: op_bench [filter] [--threads N]\n");
      return 2;
    }
  }
  auto device = CreateDevice({.name = "cpu", .num_threads = num_threads});
  if (!device.ok()) {
    absl::FPrintF(stderr, "%s\n", std::string(device.status().message()));
    return 1;
  }
  const Peaks peaks(num_threads);
  absl::PrintF("%s: peak %.1f GFLOP/s in f32, %.1f in bf16\n", (*device)->Description(), 1e-9 * peaks.f32,
               1e-9 * peaks.bf16);
  for (const OpCase& c : AllOpCases()) {
    for (const Shape& shape : c.bench_shapes) {
      for (DType dtype : c.dtypes) BenchmarkCase(c, shape, dtype, **device, peaks, num_threads, filter);
    }
  }
  return 0;
}

}  // namespace
}  // namespace conclave::core::test

int main(int argc, char** argv) { return conclave::core::test::Main(argc, argv); }
