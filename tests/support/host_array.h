// SPDX-License-Identifier: Apache-2.0
// Host memory with a tensor over it, for tests of single calls on the CPU, whose kernels compute in place.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "core/base/check.h"
#include "core/tensor/tensor.h"

namespace conclave::core::test {

template <class T>
constexpr DType DTypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, Bf16>) return DType::kBf16;
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
}

template <class T>
struct HostArray {
  // Zeros, or the values.
  explicit HostArray(std::initializer_list<int64_t> shape, std::vector<T> contents = {}) : values(std::move(contents)) {
    tensor = Tensor(nullptr, DTypeOf<T>(), shape);
    if (values.empty()) values.resize(static_cast<size_t>(tensor.Elements()));
    CHECK_EQ(values.size(), tensor.Elements());
    tensor.data = values.data();
  }
  HostArray(const HostArray&) = delete;
  HostArray& operator=(const HostArray&) = delete;

  std::vector<T> values;
  Tensor tensor;
};

}  // namespace conclave::core::test
