// SPDX-License-Identifier: Apache-2.0
// The CPU as a device, and the choice of the instruction set at run time. Compiled once, for plain x86-64: it must not
// include simd.h.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/device/cpu/amx.h"
#include "core/device/cpu/peak.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/device.h"

namespace conclave::core {

// Each stands in the cpu_kernels.cc compiled for that instruction set.
namespace cpu::portable {
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);
}
namespace cpu::avx2 {
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);
}
namespace cpu::avx512 {
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);
}
namespace cpu::avx512_bf16 {
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);
}
namespace cpu::amx {
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);
}

namespace {

// What the flags in CMakeLists.txt let the compiler use.
bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd");
}

bool HasAvx512Bf16() { return HasAvx512() && __builtin_cpu_supports("avx512bf16"); }
// AMD's processors do twice as many FLOPs by vdpbf16ps as by FMAs of floats (Zen 4 and 5), Intel's half as many
// (measured on a Xeon, model 207): there bf16 is faster as floats, unless there is AMX.
bool HasFastAvx512Bf16() { return HasAvx512Bf16() && !__builtin_cpu_is("intel"); }
bool HasAmxAndAvx512() { return HasAvx512Bf16() && cpu::HasAmx(); }

struct Target {
  std::string_view name;
  bool (*supported)();
  bool (*preferred)();  // to those behind it
  std::unique_ptr<Kernels> (*create)(ThreadPool&);
};

constexpr std::array<Target, 5> kTargets = {{
    {"amx", HasAmxAndAvx512, HasAmxAndAvx512, cpu::amx::CreateKernels},
    {"avx512_bf16", HasAvx512Bf16, HasFastAvx512Bf16, cpu::avx512_bf16::CreateKernels},
    {"avx512", HasAvx512, HasAvx512, cpu::avx512::CreateKernels},
    {"avx2", HasAvx2, HasAvx2, cpu::avx2::CreateKernels},
    {"portable", [] { return true; }, [] { return true; }, cpu::portable::CreateKernels},
}};

absl::StatusOr<const Target*> ChooseTarget(std::string_view wanted) {
  for (const Target& target : kTargets) {
    if (wanted.empty() ? target.preferred() : target.name == wanted) {
      if (target.supported()) return &target;
      return absl::FailedPreconditionError(absl::StrFormat("CONCLAVE_CPU=%s: this machine lacks it", wanted));
    }
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("CONCLAVE_CPU=%s: unknown; choose portable, avx2, avx512, avx512_bf16 or amx", wanted));
}

int UsableProcessors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));  // more than 1024 processors
}

class CpuStream final : public Stream {};
class CpuEvent final : public Event {};

// Zero pages of the system: memory is taken when it is first written, by the thread that writes it. What a plan
// reserves for the worst routing costs nothing unless it happens.
class CpuBuffer final : public DeviceBuffer {
 public:
  // nullptr if the system has no room for it.
  static std::unique_ptr<CpuBuffer> Create(int64_t bytes) {
    // Whole huge pages for large buffers: panels and arenas are walked with large strides.
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t size = std::max<size_t>(static_cast<size_t>(bytes), 1);
    const bool huge = size >= kHugePage;
    const size_t mapped = huge ? (size + kHugePage - 1) / kHugePage * kHugePage + kHugePage : size;
    void* const memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    void* data = memory;
    if (huge) {
      size_t space = mapped;
      std::align(kHugePage, size, data, space);
      madvise(data, mapped - kHugePage, MADV_HUGEPAGE);
    }
    return std::unique_ptr<CpuBuffer>(new CpuBuffer(memory, mapped, data, bytes));
  }
  ~CpuBuffer() override { munmap(memory_, mapped_); }
  CpuBuffer(const CpuBuffer&) = delete;
  CpuBuffer& operator=(const CpuBuffer&) = delete;
  void* data() const override { return data_; }
  int64_t bytes() const override { return bytes_; }

 private:
  CpuBuffer(void* memory, size_t mapped, void* data, int64_t bytes)
      : memory_(memory), mapped_(mapped), data_(data), bytes_(bytes) {}

  void* memory_;
  size_t mapped_;
  void* data_;
  int64_t bytes_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const Target& target, int num_threads) : target_(target), pool_(num_threads) {}

  absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes, std::string_view label) override {
    CHECK_GE(bytes, 0);
    std::unique_ptr<CpuBuffer> buffer = CpuBuffer::Create(bytes);
    if (buffer) return buffer;
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: %.3f GiB of host memory are not available", label, static_cast<double>(bytes) * 0x1p-30));
  }

  std::unique_ptr<Stream> CreateStream() override { return std::make_unique<CpuStream>(); }
  std::unique_ptr<Event> CreateEvent() override { return std::make_unique<CpuEvent>(); }
  void Record(Event&, Stream&) override {}
  void Wait(Stream&, const Event&) override {}
  void Synchronize(Stream&) override {}

  std::unique_ptr<Kernels> CreateKernels(Stream&) override {
    SetFloatingPointMode();
    return target_.create(pool_);
  }

  void CopyToDevice(Stream&, const void* host, const Tensor& device) override {
    CHECK(device.Contiguous());
    if (device.Bytes() > 0) std::memcpy(device.data, host, device.Bytes());
  }
  void CopyToHost(Stream&, const Tensor& device, void* host) override {
    CHECK(device.Contiguous());
    if (device.Bytes() > 0) std::memcpy(host, device.data, device.Bytes());
  }

  std::string Description() const override {
    return absl::StrFormat("cpu %s, %d thread%s", target_.name, pool_.size(), pool_.size() == 1 ? "" : "s");
  }

  double MeasurePeakFlops(DType dtype) override { return cpu::MeasurePeakFlops(dtype, pool_.size()); }
  double SamplePeakFlops(DType dtype) override { return cpu::SamplePeakFlops(dtype, pool_.size()); }
  double MeasureCopySeconds(double bytes) override { return cpu::MeasureCopySeconds(bytes, pool_.size()); }

 private:
  const Target& target_;
  ThreadPool pool_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> CreateDevice(const DeviceOptions& options) {
  if (options.name != "cpu") {
    return absl::InvalidArgumentError(absl::StrFormat("device \"%s\": this build has cpu only", options.name));
  }
  constexpr int kMostThreads = 4096;
  if (options.num_threads < 0 || options.num_threads > kMostThreads) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d threads: choose 1 to %d, or 0 for all processors", options.num_threads, kMostThreads));
  }
  const char* wanted = std::getenv("CONCLAVE_CPU");
  absl::StatusOr<const Target*> target = ChooseTarget(wanted ? wanted : "");
  if (!target.ok()) return target.status();
  SetFloatingPointMode();  // of the thread that will call the kernels
  const int num_threads = options.num_threads > 0 ? options.num_threads : UsableProcessors();
  return std::make_unique<CpuDevice>(**target, num_threads);
}

}  // namespace conclave::core
