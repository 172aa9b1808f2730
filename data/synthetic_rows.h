// SPDX-License-Identifier: Apache-2.0
// Uniform random tokens instead of text, for benchmarks: token t of a row is a pure function of (seed, source, row, t).
#pragma once

#include <cstdint>

#include "core/model/batch.h"

namespace conclave::data {

class SyntheticRows {
 public:
  SyntheticRows(int64_t length, int64_t vocab_size, uint64_t key)
      : length_(length), vocab_size_(vocab_size), key_(key) {}

  int64_t num_rows() const { return int64_t{1} << 40; }  // no run sees all of them

  // Writes `row` into row `slot` of a padding batch of this length, all but the row id.
  void Fill(int64_t row, int64_t slot, core::Batch& batch) const;

 private:
  int64_t length_, vocab_size_;
  uint64_t key_;
};

}  // namespace conclave::data
