// SPDX-License-Identifier: Apache-2.0
// What a training step reads: rows of packed documents, in host memory. All vectors are row-major [rows, length].
#pragma once

#include <cstdint>
#include <vector>

namespace conclave::core {

// positions carry the document borders: a token's keys are those from index (s - position) to s of its row.
struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int32_t> tokens = {};     // ids; 0 where padded
  std::vector<int32_t> positions = {};  // position within the document (masked) or the row; -1 = padding
  std::vector<int32_t> labels = {};     // the token after this one; -1 = no label
  int64_t num_labels = 0;               // labels that are not -1, over all rows
  std::vector<int64_t> row_ids = {};    // which packed rows these are; for the hash chain and for messages
};

// Rows [begin, begin + rows) as multi-token prediction at depth `shift` sees them (0: as they are): position s carries
// token s + shift and its label; without such a token in the same document it is padding (-1). Rows beyond the batch
// are padding, too, so that every micro-batch has its full shape.
struct ShiftedTokens {
  std::vector<int32_t> tokens, positions, labels;  // [rows, length]
};
void ShiftTokens(const Batch& batch, int64_t begin, int64_t rows, int64_t shift, ShiftedTokens& out);

}  // namespace conclave::core
