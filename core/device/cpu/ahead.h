// SPDX-License-Identifier: Apache-2.0
// Memory that is brought into the second-level cache while tiles are multiplied. What comes next is often farther away,
// where a line takes 100 ns and more (165 measured on a Xeon), and a core can wait for only so many at once. So the
// tile kernel asks for one line every few steps, and what a call of it does not get to the next call goes on with.
#pragma once

#include <xmmintrin.h>

#include <cstdint>

namespace conclave::core::cpu::CONCLAVE_TARGET {

class Ahead {
 public:
  static constexpr int64_t kLine = 64;

  constexpr Ahead() = default;
  explicit Ahead(const void* first, int64_t bytes, int64_t rows = 1, int64_t stride = 0) {
    Add(first, bytes, rows, stride);
  }

  // `rows` pieces of `bytes` bytes that stand `stride` bytes apart, behind what was added before; at most three times.
  // Any address is allowed.
  void Add(const void* first, int64_t bytes, int64_t rows = 1, int64_t stride = 0) {
    const char* row = static_cast<const char*>(first);
    if (bytes > 0 && rows > 0) regions_[count_++] = {row, row, bytes, stride, rows};
  }

  bool done() const { return current_ == count_; }

  // The next lines, at most `most`, that stand one behind the other; they count as fetched.
  struct Lines {
    const char* first = nullptr;
    int64_t count = 0;
  };
  Lines Take(int64_t most) {
    if (done()) return {};
    Region& region = regions_[current_];
    const int64_t left = (region.row + region.bytes - region.line + kLine - 1) / kLine;
    const Lines lines = {region.line, left < most ? left : most};
    region.line += lines.count * kLine;
    if (lines.count == left) {
      region.row += region.stride;
      region.line = region.row;
      if (--region.rows == 0) ++current_;
    }
    return lines;
  }

 private:
  struct Region {
    const char *row = nullptr, *line = nullptr;  // that are next
    int64_t bytes = 0, stride = 0, rows = 0;
  };
  Region regions_[3];
  int count_ = 0, current_ = 0;
};

// For those who fetch nothing: it never changes.
inline constinit Ahead nothing_ahead;

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
