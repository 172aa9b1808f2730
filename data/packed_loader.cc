// SPDX-License-Identifier: Apache-2.0
#include "data/packed_loader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/status_macros.h"
#include "data/count_text.h"
#include "data/epoch_order.h"

namespace conclave::data {
namespace {

constexpr int kRowIdBits = 40;  // row id = source << 40 | row

// Holds out the last rows of each source.
absl::Status HoldOut(double fraction, std::vector<RowSource>& train) {
  int64_t num_held_out = 0;
  for (RowSource& source : train) {
    if (source.IsSynthetic()) continue;
    source.num_train_rows -= NumHeldOutRows(source.NumRows(), fraction);
    num_held_out += source.NumRows() - source.num_train_rows;
  }
  if (num_held_out > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "data.validation_fraction: no training source has two rows, so none can be held out; give more text, a smaller "
      "data.sequence_length, or data.validation");
}

}  // namespace

int64_t RowSource::NumRows() const {
  return std::visit([](const auto& r) { return r.num_rows(); }, rows);
}

void RowSource::Prefetch(int64_t row) const {
  if (const auto* packed = std::get_if<PackedRows>(&rows)) packed->Prefetch(row);
}

void RowSource::Fill(int64_t row, int64_t slot, core::Batch& batch) const {
  std::visit([&](const auto& r) { r.Fill(row, slot, batch); }, rows);
  batch.row_ids[slot] = (id << kRowIdBits) + row;
}

absl::StatusOr<std::unique_ptr<Loader>> PackedLoader::Create(std::vector<RowSource> train,
                                                             std::vector<RowSource> validation,
                                                             const core::DataConfig& config, const Tokenizer& tokenizer,
                                                             uint64_t seed) {
  for (RowSource& source : train) source.num_train_rows = source.NumRows();
  if (config.validation_fraction > 0 && validation.empty()) RETURN_IF_ERROR(HoldOut(config.validation_fraction, train));
  return std::unique_ptr<Loader>(new PackedLoader(std::move(train), std::move(validation), config, tokenizer, seed));
}

PackedLoader::PackedLoader(std::vector<RowSource> train, std::vector<RowSource> validation,
                           const core::DataConfig& config, const Tokenizer& tokenizer, uint64_t seed)
    : length_(config.sequence_length),
      mask_documents_(config.mask_documents),
      seed_(seed),
      train_(std::move(train)),
      validation_(std::move(validation)) {
  std::vector<double> weights;
  for (const RowSource& source : train_) weights.push_back(source.weight);
  if (!weights.empty()) blend_.emplace(weights);
  for (const std::vector<RowSource>* sources : {&train_, &validation_}) {
    for (const RowSource& source : *sources) {
      if (source.IsSynthetic()) continue;
      validation_ranges_.push_back({&source, source.num_train_rows, source.NumRows()});
      num_validation_rows_ += source.NumRows() - source.num_train_rows;
    }
  }
  CountValidationBytes(tokenizer);
}

int64_t PackedLoader::num_train_rows() const {
  int64_t total = 0;
  for (const RowSource& source : train_) total += source.num_train_rows;
  return total;
}

PackedLoader::Draw PackedLoader::DrawAt(int64_t position) const {
  CHECK(blend_.has_value());
  const Blend::Draw draw = (*blend_)(position);
  const RowSource& source = train_[draw.source];
  return {source, DrawElement(seed_, source.id, source.num_train_rows, draw.index)};
}

core::Batch PackedLoader::TrainBatch(int64_t position, int64_t rows) const {
  core::Batch batch = PaddingBatch(rows, length_);
  for (int64_t slot = 0; slot < rows; ++slot) {
    const Draw draw = DrawAt(position + slot);
    draw.source.Fill(draw.row, slot, batch);
  }
  return batch;
}

void PackedLoader::Prefetch(int64_t position, int64_t rows) const {
  for (int64_t i = 0; i < rows; ++i) {
    const Draw draw = DrawAt(position + i);
    draw.source.Prefetch(draw.row);
  }
}

std::string PackedLoader::Fingerprint() const {
  core::Hasher hasher;
  auto add = [&](const std::string& text) { hasher.Update(text.data(), text.size()); };
  add(absl::StrFormat("rows of %d, %s", length_, mask_documents_ ? "masked" : "open"));
  for (const std::vector<RowSource>* sources : {&train_, &validation_}) {
    for (const RowSource& source : *sources) {
      add(absl::StrFormat("; source %d: %d rows of %s", source.id, source.NumRows(),
                          source.IsSynthetic() ? "random tokens" : source.checksum));
    }
  }
  return hasher.HexDigest();
}

core::Batch PackedLoader::ValidationBatch(int64_t begin, int64_t rows) const {
  core::Batch batch = PaddingBatch(rows, length_);
  int64_t range_begin = 0;  // in the concatenation of all ranges
  for (const ValidationRange& range : validation_ranges_) {
    const int64_t range_end = range_begin + range.end - range.begin;
    for (int64_t row = std::max(begin, range_begin); row < std::min(begin + rows, range_end); ++row) {
      range.source->Fill(range.begin + row - range_begin, row - begin, batch);
    }
    range_begin = range_end;
  }
  return batch;
}

void PackedLoader::CountValidationBytes(const Tokenizer& tokenizer) {
  std::vector<int64_t> bytes_of_id(tokenizer.vocab_size(), 0);
  for (size_t id = 0; id < bytes_of_id.size(); ++id) {
    if (!tokenizer.IsSpecial(static_cast<int32_t>(id))) {
      bytes_of_id[id] = static_cast<int64_t>(tokenizer.TokenText(static_cast<int32_t>(id)).size());
    }
  }
  for (int64_t row = 0; row < num_validation_rows_; ++row) {
    const core::Batch batch = ValidationBatch(row, 1);
    for (const int32_t label : batch.labels) {
      const bool known = label >= 0 && static_cast<size_t>(label) < bytes_of_id.size();
      validation_bytes_ += known ? bytes_of_id[label] : 0;
    }
  }
}

std::string PackedLoader::Description() const {
  TextCounts counts{};
  int64_t num_rows = 0, num_synthetic = 0;
  for (const RowSource& source : train_) {
    counts.files += source.counts.files;
    counts.documents += source.counts.documents;
    counts.empty_documents += source.counts.empty_documents;
    counts.long_documents += source.counts.long_documents;
    counts.bytes += source.counts.bytes;
    num_rows += source.IsSynthetic() ? 0 : source.num_train_rows;
    num_synthetic += source.IsSynthetic();
  }
  const bool samples = !train_.empty() && std::holds_alternative<SampleRows>(train_[0].rows);
  const std::string noun = samples ? "sample" : "document";
  std::string text = train_.empty() ? "no training data" : "";
  if (counts.documents > 0) {
    text = counts.files > 1 ? Count(counts.files, "file") + ", " : "";
    text += Count(counts.documents, noun) + ", ";
    if (counts.bytes > 0) text += Count(counts.bytes, "byte") + ", ";  // token files do not know
    text += absl::StrFormat("%s of %d tokens", Count(num_rows, "row"), length_);
  }
  if (counts.empty_documents > 0) text += " (" + Count(counts.empty_documents, "empty " + noun) + " skipped)";
  if (counts.long_documents > 0) text += " (" + Count(counts.long_documents, "long " + noun) + " dropped)";
  if (num_synthetic > 0) text += absl::StrFormat("%srandom rows of %d tokens", text.empty() ? "" : ", and ", length_);
  if (num_validation_rows_ > 0) text += "; validation " + Count(num_validation_rows_, "row");
  return text;
}

}  // namespace conclave::data
