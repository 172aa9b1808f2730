// SPDX-License-Identifier: Apache-2.0
// Memory, streams and events of a CPU or a GPU. Kernels (kernels.h) are bound to one stream. On the CPU a stream runs each
// operation at once, so events are always reached; code written against this interface must not rely on that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/device/kernels.h"
#include "core/tensor/tensor.h"

namespace conclave::core {

// An order of execution. Kernels of one stream run one after the other; Wait lets a stream wait for an event of another.
class Stream {
 public:
  virtual ~Stream() = default;
};

// A point in a stream.
class Event {
 public:
  virtual ~Event() = default;
};

// Memory of a device; freed on destruction.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() const = 0;
  virtual int64_t bytes() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  // Zero-filled, aligned to 128 bytes or better. An error names `label` and the size.
  virtual absl::StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(int64_t bytes, std::string_view label) = 0;

  virtual std::unique_ptr<Stream> CreateStream() = 0;
  virtual std::unique_ptr<Event> CreateEvent() = 0;
  virtual void Record(Event& event, Stream& stream) = 0;
  virtual void Wait(Stream& stream, const Event& event) = 0;
  virtual void Synchronize(Stream& stream) = 0;

  virtual std::unique_ptr<Kernels> CreateKernels(Stream& stream) = 0;

  // Between host and device memory, in stream order; contiguous tensors of equal dtype and size.
  virtual void CopyToDevice(Stream& stream, const void* host, const Tensor& device) = 0;
  virtual void CopyToHost(Stream& stream, const Tensor& device, void* host) = 0;

  // What runs: "cpu avx512_bf16, 2 threads". The part before the comma decides bf16 bits and stands in manifests.
  virtual std::string Description() const = 0;

  // ---- What it can do at best, measured when called: what speeds are shares of. -------------------------------------
  virtual double MeasurePeakFlops(DType dtype) = 0;     // FLOP/s of multiply-adds in registers, f32 or bf16
  virtual double SamplePeakFlops(DType dtype) = 0;      // the same just now, in one or two milliseconds
  virtual double MeasureCopySeconds(double bytes) = 0;  // to copy: bytes / 2 are read and bytes / 2 written
};

struct DeviceOptions {
  std::string name = "cpu";
  int num_threads = 0;  // 0: all processors this process may use
};

// Creates the device. For "cpu" the instruction set is the fastest of the machine, or the one that the environment
// variable CONCLAVE_CPU names: portable, avx2, avx512, avx512_bf16, amx (an error if the machine lacks it or the name is
// unknown).
absl::StatusOr<std::unique_ptr<Device>> CreateDevice(const DeviceOptions& options);

}  // namespace conclave::core
