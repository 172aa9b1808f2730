// SPDX-License-Identifier: Apache-2.0
// From the dtype of a tensor (a value) to a C++ type (a template argument), once per operation:
//   DispatchFloat(x.dtype, [&](auto zero) { using T = decltype(zero); ... x.As<T>() ... });
#pragma once

#include "core/base/check.h"
#include "core/tensor/dtype.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

template <class Body>
void DispatchFloat(DType dtype, Body&& body) {
  if (dtype == DType::kBf16) return body(Bf16{});
  CHECK(dtype == DType::kF32);
  body(float{});
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
