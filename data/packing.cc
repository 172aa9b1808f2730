// SPDX-License-Identifier: Apache-2.0
// Rows are views of the stream, made when asked for.
#include "data/packing.h"

#include <algorithm>

#include "core/base/check.h"

namespace conclave::data {
namespace {

constexpr int32_t kNone = -1;

// Sets one token of a batch; `at` is its index in the row-major vectors.
void SetToken(core::Batch& batch, int64_t at, int32_t token, int64_t position, int32_t label) {
  batch.tokens[at] = token;
  batch.positions[at] = static_cast<int32_t>(position);
  batch.labels[at] = label;
  batch.num_labels += label != kNone;
}

}  // namespace

core::Batch PaddingBatch(int64_t rows, int64_t length) {
  core::Batch batch;
  batch.rows = rows;
  batch.length = length;
  batch.tokens.assign(rows * length, 0);
  batch.positions.assign(rows * length, kNone);
  batch.labels.assign(rows * length, kNone);
  batch.row_ids.assign(rows, kNone);
  return batch;
}

PackedRows::PackedRows(int64_t length, DocumentBorders borders, int64_t vocab_size)
    : length_(length), borders_(borders), tokens_(vocab_size) {}

void PackedRows::AppendDocument(std::span<const int32_t> ids) {
  document_begins_.push_back(tokens_.size());
  tokens_.Append(ids);
}

int64_t PackedRows::num_rows() const {
  const int64_t num_predicted = std::max<int64_t>(tokens_.size() - 1, 0);
  return (num_predicted + length_ - 1) / length_;
}

PackedRows::Range PackedRows::TokensOfRow(int64_t row) const {
  return {row * length_, std::min((row + 1) * length_, tokens_.size())};
}

void PackedRows::Fill(int64_t row, int64_t slot, core::Batch& batch) const {
  CHECK_LT(row, num_rows());
  CHECK_EQ(batch.length, length_);
  const Range range = TokensOfRow(row);
  if (borders_ == DocumentBorders::kOpen) {
    FillOpen(range, slot, batch);
  } else {
    FillMasked(range, slot, batch);
  }
}

void PackedRows::FillOpen(Range range, int64_t slot, core::Batch& batch) const {
  for (int64_t i = range.begin; i < range.end; ++i) {
    const int64_t position = i - range.begin;
    const int32_t label = i + 1 < tokens_.size() ? tokens_[i + 1] : kNone;
    SetToken(batch, slot * length_ + position, tokens_[i], position, label);
  }
}

void PackedRows::FillMasked(Range range, int64_t slot, core::Batch& batch) const {
  auto next_document = std::upper_bound(document_begins_.begin(), document_begins_.end(), range.begin);
  int64_t segment_begin = range.begin;
  for (int64_t i = range.begin; i < range.end; ++i) {
    int64_t document_end = next_document == document_begins_.end() ? tokens_.size() : *next_document;
    if (i == document_end) {
      segment_begin = i;
      ++next_document;
      document_end = next_document == document_begins_.end() ? tokens_.size() : *next_document;
    }
    const int32_t label = i + 1 < document_end ? tokens_[i + 1] : kNone;
    SetToken(batch, slot * length_ + i - range.begin, tokens_[i], i - segment_begin, label);
  }
}

}  // namespace conclave::data
