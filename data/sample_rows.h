// SPDX-License-Identifier: Apache-2.0
// Samples of fine-tuning as rows: whole, several to a row where they fit (best fit, longest first), each a segment of
// its own that sees nothing of the others. The last token of a sample is a label only. Rows come in an order that does
// not depend on length, so that held-out rows are like the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/model/batch.h"

namespace conclave::data {

// The tokens of samples one after the other.
struct Samples {
  std::vector<int32_t> tokens = {};
  std::vector<uint8_t> learned = {};  // of each token: 1 = it is a label where it follows
  std::vector<int64_t> ends = {};     // of each sample, in tokens

  int64_t size() const { return static_cast<int64_t>(ends.size()); }
  int64_t Begin(int64_t sample) const { return sample == 0 ? 0 : ends[sample - 1]; }
};

class SampleRows {
 public:
  // Every sample has from 2 to length + 1 tokens.
  SampleRows(int64_t length, Samples samples);

  int64_t num_rows() const { return static_cast<int64_t>(row_ends_.size()); }

  // Writes `row` into row `slot` of a padding batch of this length, all but the row id.
  void Fill(int64_t row, int64_t slot, core::Batch& batch) const;

  // 32 hexadecimal digits over tokens and labels.
  std::string Checksum() const;

 private:
  int64_t length_;
  Samples samples_;
  std::vector<int64_t> packed_;    // samples, row after row
  std::vector<int64_t> row_ends_;  // in packed_
};

}  // namespace conclave::data
