// SPDX-License-Identifier: Apache-2.0
// How much heap a piece of code holds at once. Replaces operator new and delete of the program: include it in one file
// of a test binary only.
#pragma once

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace conclave::testing {

inline std::atomic<int64_t> heap_bytes{0}, heap_peak{0};

// The peak since its construction, above what was held then.
class HeapPeak {
 public:
  HeapPeak() : before_(heap_bytes.load()) { heap_peak.store(before_); }
  int64_t Bytes() const { return heap_peak.load() - before_; }

 private:
  int64_t before_;
};

}  // namespace conclave::testing

void* operator new(size_t bytes) {
  void* memory = std::malloc(std::max<size_t>(bytes, 1));
  if (memory == nullptr) std::abort();
  using conclave::testing::heap_bytes, conclave::testing::heap_peak;
  const int64_t held = heap_bytes += static_cast<int64_t>(malloc_usable_size(memory));
  for (int64_t peak = heap_peak.load(); peak < held && !heap_peak.compare_exchange_weak(peak, held);) {
  }
  return memory;
}
// Not left to the sanitizer, whose own would not match the deletes below.
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return operator new(bytes); }
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  conclave::testing::heap_bytes -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
