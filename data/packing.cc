// SPDX-License-Identifier: Apache-2.0
// Rows are views of the stream, made when asked for.
#include "data/packing.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "core/base/check.h"

namespace conclave::data {
namespace {

constexpr int32_t kNone = -1;

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

int64_t PackedRows::num_rows() const {
  const int64_t num_predicted = std::max<int64_t>(tokens_.num_tokens() - 1, 0);
  return (num_predicted + length_ - 1) / length_;
}

PackedRows::Range PackedRows::TokensOfRow(int64_t row) const {
  return {row * length_, std::min((row + 1) * length_, tokens_.num_tokens())};
}

void PackedRows::Fill(int64_t row, int64_t slot, core::Batch& batch) const {
  CHECK_LT(row, num_rows());
  CHECK_EQ(batch.length, length_);
  const Range range = TokensOfRow(row);
  const int64_t at = slot * length_, size = range.end - range.begin;
  const std::span<int32_t> tokens(batch.tokens.data() + at, static_cast<size_t>(size));
  tokens_.Read(range.begin, tokens);
  std::copy(tokens.begin() + 1, tokens.end(), batch.labels.begin() + at);
  batch.num_labels += size - 1;
  if (range.end < tokens_.num_tokens()) {
    tokens_.Read(range.end, {&batch.labels[at + size - 1], 1});
    ++batch.num_labels;
  }
  std::iota(batch.positions.begin() + at, batch.positions.begin() + at + size, 0);
  if (borders_ == DocumentBorders::kMasked) MaskBorders(range, at, batch);
}

void PackedRows::MaskBorders(Range range, int64_t at, core::Batch& batch) const {
  int64_t segment_begin = range.begin;
  for (int64_t document = tokens_.FirstDocumentAfter(range.begin); segment_begin < range.end; ++document) {
    const int64_t border = tokens_.DocumentBegin(document);
    const int64_t segment_end = std::min(border, range.end);
    for (int64_t i = segment_begin; i < segment_end; ++i) {
      batch.positions[at + i - range.begin] = static_cast<int32_t>(i - segment_begin);
    }
    segment_begin = segment_end;
    if (border > range.end || border == tokens_.num_tokens()) break;
    int32_t& label = batch.labels[at + border - range.begin - 1];
    batch.num_labels -= label != kNone;
    label = kNone;
  }
}

void PackedRows::Prefetch(int64_t row) const {
  const Range range = TokensOfRow(row);
  tokens_.Prefetch(range.begin, std::min(range.end + 1, tokens_.num_tokens()));
}

}  // namespace conclave::data
