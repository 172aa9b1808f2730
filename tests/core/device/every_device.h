// SPDX-License-Identifier: Apache-2.0
// The thread law and the machine law as one call: a computation must give the same bytes with every instruction set of
// this machine and with 1, 2, 3 and 8 threads.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/rng.h"
#include "core/device/device.h"
#include "tests/support/devices.h"

namespace conclave::core::test {

inline Devices& AllDevices() {
  static Devices devices;
  return devices;
}

// run(Kernels&) returns a vector of numbers. Returns that of the portable kernels on one thread.
template <class Run>
auto SameOnEveryDevice(Run run) {
  decltype(run(std::declval<Kernels&>())) first;
  bool have_first = false;
  for (const std::string& target : AllDevices().targets()) {
    for (int threads : {1, 2, 3, 8}) {
      Device& device = AllDevices().Get(target, threads);
      const std::unique_ptr<Stream> stream = device.CreateStream();
      auto result = run(*device.CreateKernels(*stream));
      if (!have_first) first = result;
      have_first = true;
      EXPECT_EQ(result.size(), first.size());
      const size_t bytes = first.size() * sizeof(first[0]);
      EXPECT_TRUE(bytes == 0 || std::memcmp(result.data(), first.data(), bytes) == 0)
          << "other bits on " << device.Description();
    }
  }
  return first;
}

// One object of kernels for tests of what does not depend on the device: the best of this machine, one thread
// (death tests fork, which leaves the other threads behind).
class BestKernels {
 public:
  BestKernels()
      : device_(AllDevices().Get(AllDevices().targets().back(), 1)),
        stream_(device_.CreateStream()),
        kernels_(device_.CreateKernels(*stream_)) {}
  Kernels* operator->() { return kernels_.get(); }
  Kernels& operator*() { return *kernels_; }

 private:
  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
};

inline std::vector<float> Normals(uint64_t key, int64_t count, float scale = 1) {
  std::vector<float> x(count);
  for (int64_t i = 0; i < count; ++i) x[i] = scale * StandardNormal(key, i);
  return x;
}

inline std::vector<Bf16> Rounded(const std::vector<float>& x) {
  std::vector<Bf16> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = ToBf16(x[i]);
  return y;
}

template <class T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, Bf16>) return DType::kBf16;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
}

template <class T>
Tensor View(std::vector<T>& x, std::initializer_list<int64_t> shape) {
  const Tensor tensor(x.data(), DTypeOf<T>(), shape);
  CHECK_EQ(tensor.Elements(), x.size());
  return tensor;
}

template <class T>
Tensor View(std::vector<T>& x) {
  return View(x, {static_cast<int64_t>(x.size())});
}

}  // namespace conclave::core::test
