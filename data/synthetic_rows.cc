// SPDX-License-Identifier: Apache-2.0
// Philox gives four words per counter (row, position / 4); a word scaled to the vocabulary is a token.
#include "data/synthetic_rows.h"

#include <array>

#include "core/base/rng.h"

namespace conclave::data {

void SyntheticRows::Fill(int64_t row, int64_t slot, core::Batch& batch) const {
  std::array<uint32_t, 4> words;
  for (int64_t i = 0; i <= length_; ++i) {  // one more than the row: the last label
    if (i % 4 == 0) words = core::Philox(key_, static_cast<uint64_t>(row), static_cast<uint64_t>(i / 4));
    const auto token = static_cast<int32_t>((uint64_t{words[i % 4]} * static_cast<uint64_t>(vocab_size_)) >> 32);
    const int64_t at = slot * length_ + i;
    if (i > 0) batch.labels[at - 1] = token;
    if (i == length_) break;
    batch.tokens[at] = token;
    batch.positions[at] = static_cast<int32_t>(i);
  }
  batch.num_labels += length_;
}

}  // namespace conclave::data
