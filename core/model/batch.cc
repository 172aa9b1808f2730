// SPDX-License-Identifier: Apache-2.0
#include "core/model/batch.h"

namespace conclave::core {

void ShiftTokens(const Batch& batch, int64_t begin, int64_t rows, int64_t shift, ShiftedTokens& out) {
  const int64_t length = batch.length;
  out.tokens.assign(rows * length, -1);
  out.positions.assign(rows * length, -1);
  out.labels.assign(rows * length, -1);
  for (int64_t row = 0; row < rows; ++row) {
    if (begin + row >= batch.rows) break;
    const int64_t source = (begin + row) * length;
    for (int64_t s = 0; s + shift < length; ++s) {
      const int32_t position = batch.positions[source + s];
      // A later token of the same document is as much further in the document as in the row.
      if (position < 0 || batch.positions[source + s + shift] != position + shift) continue;
      out.positions[row * length + s] = position;
      out.tokens[row * length + s] = batch.tokens[source + s + shift];
      out.labels[row * length + s] = batch.labels[source + s + shift];
    }
  }
}

}  // namespace conclave::core
