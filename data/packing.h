// SPDX-License-Identifier: Apache-2.0
// Documents to rows of equal length, once, in file order: the documents stand one after the other in one stream, and
// row r is tokens [r S, (r + 1) S) of it; its labels look one token further. What is left of the last row is padding.
// With masked borders the cuts are the same, but every document, and every rest of one that goes on in the next row, is
// a segment of its own: positions count from its first token in the row, and the last token of a document has no label.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/batch.h"
#include "data/token_store.h"

namespace conclave::data {

enum class DocumentBorders { kOpen, kMasked };

// A batch of padding: token 0, position -1, label -1, row id -1.
core::Batch PaddingBatch(int64_t rows, int64_t length);

class PackedRows {
 public:
  PackedRows(int64_t length, DocumentBorders borders, int64_t vocab_size);

  void AppendDocument(std::span<const int32_t> ids);

  // Rows with something to predict: a last row of one token alone is left out.
  int64_t num_rows() const;

  // Writes `row` into row `slot` of a padding batch of this length, all but the row id.
  void Fill(int64_t row, int64_t slot, core::Batch& batch) const;

 private:
  struct Range {
    int64_t begin, end;
  };
  // The row index: which tokens a row holds. Nothing else knows where rows are cut.
  Range TokensOfRow(int64_t row) const;
  void FillOpen(Range range, int64_t slot, core::Batch& batch) const;
  void FillMasked(Range range, int64_t slot, core::Batch& batch) const;

  int64_t length_;
  DocumentBorders borders_;
  TokenStore tokens_;
  std::vector<int64_t> document_begins_;  // offsets in tokens_
};

}  // namespace conclave::data
