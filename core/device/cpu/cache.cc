// SPDX-License-Identifier: Apache-2.0
// Keys and values of new tokens go to their places in the decode cache.
#include <cstring>

#include "core/device/cpu/cpu_kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

void CpuKernels::StoreInCache(Tensor x, Tensor key_index, Tensor cache) {
  CHECK(x.dtype == cache.dtype && x.rank == 3 && cache.rank == 3);
  CHECK_EQ(x.size(0), cache.size(0));
  CHECK_EQ(x.size(2), cache.size(2));
  const int64_t bytes = x.size(2) * SizeOf(x.dtype);
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t s = 0; s < x.size(1); ++s) {
      const int32_t index = key_index.As<int32_t>()[b * key_index.stride(0) + s];
      if (index < 0) continue;
      CHECK_LT(index, cache.size(1));
      std::memcpy(cache.As<char>() + (b * cache.stride(0) + index * cache.stride(1)) * SizeOf(x.dtype),
                  x.As<char>() + (b * x.stride(0) + s * x.stride(1)) * SizeOf(x.dtype), bytes);
    }
  }
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
