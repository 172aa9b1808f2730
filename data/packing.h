// SPDX-License-Identifier: Apache-2.0
// Documents to rows of equal length, in file order: the documents stand one after the other in one stream, and
// row r is tokens [r S, (r + 1) S) of it; its labels look one token further. What is left of the last row is padding.
// With masked borders the cuts are the same, but every document, and every rest of one that goes on in the next row, is
// a segment of its own: positions count from its first token in the row, and the last token of a document has no label.
#pragma once

#include <cstdint>
#include <utility>

#include "core/model/batch.h"
#include "data/token_file.h"

namespace conclave::data {

enum class DocumentBorders { kOpen, kMasked };

// A batch of padding: token 0, position -1, label -1, row id -1.
core::Batch PaddingBatch(int64_t rows, int64_t length);

class PackedRows {
 public:
  PackedRows(int64_t length, DocumentBorders borders, TokenFile tokens)
      : length_(length), borders_(borders), tokens_(std::move(tokens)) {}

  const TokenFile& tokens() const { return tokens_; }

  // Rows with something to predict: a last row of one token alone is left out.
  int64_t num_rows() const;

  // Writes `row` into row `slot` of a padding batch of this length, all but the row id.
  void Fill(int64_t row, int64_t slot, core::Batch& batch) const;

  // Lets the system read ahead what Fill will need.
  void Prefetch(int64_t row) const;

 private:
  struct Range {
    int64_t begin, end;
  };
  // The row index: which tokens a row holds. Nothing else knows where rows are cut.
  Range TokensOfRow(int64_t row) const;
  void MaskBorders(Range range, int64_t at, core::Batch& batch) const;

  int64_t length_;
  DocumentBorders borders_;
  TokenFile tokens_;
};

}  // namespace conclave::data
