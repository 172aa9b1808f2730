// SPDX-License-Identifier: Apache-2.0
// Cuts one allocation (a workspace, a thread's scratch) into aligned arrays. A struct of pointers whose constructor
// takes them from a Carver states its layout once: built over a null pointer it measures, over memory it places.
#pragma once

#include <cstdint>

#include "core/device/cpu/simd.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

class Carver {
 public:
  explicit Carver(void* memory) : begin_(static_cast<char*>(memory)) {}
  template <class T>
  T* Take(int64_t elements) {
    char* piece = begin_ ? begin_ + used_ : nullptr;
    used_ += (elements * static_cast<int64_t>(sizeof(T)) + 127) / 128 * 128;
    return reinterpret_cast<T*>(piece);
  }
  int64_t used() const { return used_; }

 private:
  char* begin_;
  int64_t used_ = 0;
};

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
