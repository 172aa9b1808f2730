// SPDX-License-Identifier: Apache-2.0
// Memory that is brought into the second-level cache while tiles are multiplied: what comes next is often farther away,
// where a line takes 100 ns and more, and a core waits for some 16 of them at once. So the tile kernel asks for one
// line every few steps, and what a call of it does not get to the next call goes on with.
#pragma once

#include <xmmintrin.h>

#include <cstdint>

namespace conclave::core::cpu::CONCLAVE_TARGET {

class Ahead {
 public:
  Ahead() = default;
  // `rows` pieces of `bytes` bytes that stand `stride` bytes apart. Any address is allowed.
  Ahead(const void* first, int64_t bytes, int64_t rows = 1, int64_t stride = 0)
      : row_(static_cast<const char*>(first)),
        line_(row_),
        bytes_(bytes),
        stride_(stride),
        rows_(bytes > 0 ? rows : 0) {}

  bool done() const { return rows_ <= 0; }

  // The next lines, at most `most`, that stand one behind the other; they count as fetched.
  struct Lines {
    const char* first = nullptr;
    int64_t count = 0;
  };
  Lines Take(int64_t most) {
    if (done()) return {};
    const int64_t left = (row_ + bytes_ - line_ + kLine - 1) / kLine;
    const Lines lines = {line_, left < most ? left : most};
    line_ += lines.count * kLine;
    if (lines.count == left) {
      --rows_;
      row_ += stride_;
      line_ = row_;
    }
    return lines;
  }

  static constexpr int64_t kLine = 64;

 private:
  const char *row_ = nullptr, *line_ = nullptr;
  int64_t bytes_ = 0, stride_ = 0, rows_ = 0;
};

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
