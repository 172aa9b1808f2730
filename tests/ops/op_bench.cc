// SPDX-License-Identifier: Apache-2.0
// op_bench [filter] [--threads N]: the time of every operation whose name contains `filter`, on the shapes of real
// models with random data, the median of 10 runs or more, against what this machine can do, measured in the same run:
// FMAs in registers (bf16: vdpbf16ps), and a memcpy of as many bytes as the operation touches. "of peak" = the time
// that the scarcer of the two would take / the time taken. Where others use the cores, too, the peak of a quiet moment
// says little: "just then" is the median over the runs of the share of what FMAs in registers did right before each.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "core/device/median_seconds.h"
#include "tests/ops/op_cases.h"
#include "tests/support/devices.h"
#include "tests/support/op_run.h"

namespace conclave::core::test {
namespace {

constexpr double kNothingToDo = 3e-7;  // seconds

struct Peaks {
  double f32, bf16;  // FLOP/s
};

void BenchmarkCase(const OpCase& c, const Shape& shape, DType dtype, Device& device, const Peaks& peaks,
                   std::string_view filter) {
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
    std::vector<double> just_then;  // seconds of the FLOPs at the rate of that moment / seconds taken
    const double seconds = MedianOfRuns([&] {
      const double rate = flops > 0 ? device.SamplePeakFlops(dtype) : 0;
      const double taken = SecondsOf([&] { placed.Run({step}); });
      if (flops > 0) just_then.push_back(flops / rate / taken);
      return taken;
    });
    if (seconds < kNothingToDo) continue;  // a step that these options leave out
    const double compute = flops / (dtype == DType::kBf16 ? peaks.bf16 : peaks.f32);
    const double memory = device.MeasureCopySeconds(bytes);
    absl::PrintF("  %-24s %-5s %10.1f us %8.1f GB/s %9.1f GFLOP/s %5.0f %% of peak (", step.name, Name(dtype),
                 1e6 * seconds, 1e-9 * bytes / seconds, 1e-9 * flops / seconds,
                 100 * std::max(compute, memory) / seconds);
    if (compute > memory) {
      absl::PrintF("compute; just then %.0f %%)\n", 100 * Median(just_then));
    } else {
      absl::PrintF("memory)\n");
    }
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
  const Peaks peaks{.f32 = (*device)->MeasurePeakFlops(DType::kF32), .bf16 = (*device)->MeasurePeakFlops(DType::kBf16)};
  double load = 0;
  getloadavg(&load, 1);
  absl::PrintF("%s: peak %.1f GFLOP/s in f32, %.1f in bf16; load of the machine in the last minute %.2f\n",
               (*device)->Description(), 1e-9 * peaks.f32, 1e-9 * peaks.bf16, load);
  for (const OpCase& c : AllOpCases()) {
    for (const Shape& shape : c.bench_shapes) {
      for (DType dtype : c.dtypes) BenchmarkCase(c, shape, dtype, **device, peaks, filter);
    }
  }
  return 0;
}

}  // namespace
}  // namespace conclave::core::test

int main(int argc, char** argv) { return conclave::core::test::Main(argc, argv); }
