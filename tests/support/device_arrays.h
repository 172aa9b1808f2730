// SPDX-License-Identifier: Apache-2.0
// Arrays of one device for tests that call operations by hand: made from host values, read back as values or bytes.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/device/device.h"
#include "tests/support/problem.h"

namespace conclave::core::test {

class DeviceArrays {
 public:
  explicit DeviceArrays(Device& device)
      : device_(device), stream_(device.CreateStream()), kernels_(device.CreateKernels(*stream_)) {}

  Kernels& kernels() { return *kernels_; }

  // Contiguous, filled with zeros.
  Tensor Zeros(DType dtype, std::initializer_list<int64_t> shape) {
    Tensor tensor(nullptr, dtype, shape);
    auto buffer = device_.Allocate(tensor.Bytes() > 0 ? tensor.Bytes() : 1, "test");
    CHECK(buffer.ok());
    tensor.data = (*buffer)->data();
    buffers_.push_back(std::move(*buffer));
    return tensor;
  }
  // From host values in the array's order, rounded to its dtype; cycled if there are fewer.
  Tensor Of(DType dtype, std::initializer_list<int64_t> shape, const std::vector<double>& values) {
    Array array = HostArray(dtype, shape);
    return Upload(array.Set(values), shape);
  }
  // Standard normal numbers, the same for equal keys.
  Tensor Normal(DType dtype, std::initializer_list<int64_t> shape, uint64_t key) {
    Array array = HostArray(dtype, shape);
    array.key = key;
    return Upload(array.Normal(), shape);
  }

  // The contents of a contiguous tensor.
  std::vector<unsigned char> Bytes(const Tensor& tensor) {
    std::vector<unsigned char> bytes(static_cast<size_t>(tensor.Bytes()));
    CHECK(tensor.Contiguous());
    if (!bytes.empty()) device_.CopyToHost(*stream_, tensor, bytes.data());
    device_.Synchronize(*stream_);
    return bytes;
  }
  std::vector<double> Values(const Tensor& tensor) {
    Array array = HostArray(tensor.dtype, {tensor.Elements()});
    array.bytes = Bytes(tensor);
    return array.ToDoubles();
  }

 private:
  static Array HostArray(DType dtype, const Shape& shape) {
    Array array;
    array.dtype = dtype;
    array.shape = shape;
    array.bytes.resize(static_cast<size_t>(Elements(shape) * SizeOf(dtype)));
    return array;
  }
  Tensor Upload(const Array& array, std::initializer_list<int64_t> shape) {
    const Tensor tensor = Zeros(array.dtype, shape);
    if (!array.bytes.empty()) device_.CopyToDevice(*stream_, array.bytes.data(), tensor);
    return tensor;
  }

  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<std::unique_ptr<DeviceBuffer>> buffers_;
};

}  // namespace conclave::core::test
