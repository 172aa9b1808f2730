// SPDX-License-Identifier: Apache-2.0
// The loader over rows of any kind. Draw k of a training source is row permutation_e(k mod rows) in its epoch
// e = k / rows, with one keyed permutation per (source, epoch); the blend says which source a draw comes from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "data/blend.h"
#include "data/loader.h"
#include "data/packing.h"
#include "data/sample_rows.h"
#include "data/synthetic_rows.h"
#include "data/tokenizer.h"

namespace conclave::data {

struct TextCounts {
  int64_t files = 0, documents = 0, empty_documents = 0, long_documents = 0, bytes = 0;
};

// Rows of one source.
struct RowSource {
  int64_t id = 0;
  std::variant<PackedRows, SampleRows, SyntheticRows> rows;
  double weight = 1;           // in the blend
  int64_t num_train_rows = 0;  // the rows from here on are held out for validation
  TextCounts counts{};         // empty and long documents were skipped
  std::string checksum = {};   // of the tokens

  bool IsSynthetic() const { return std::holds_alternative<SyntheticRows>(rows); }
  int64_t NumRows() const;
  void Prefetch(int64_t row) const;
  void Fill(int64_t row, int64_t slot, core::Batch& batch) const;
};

class PackedLoader final : public Loader {
 public:
  // The validation sources' ids count on from those of the training sources.
  static absl::StatusOr<std::unique_ptr<Loader>> Create(std::vector<RowSource> train, std::vector<RowSource> validation,
                                                        const core::DataConfig& config, const Tokenizer& tokenizer,
                                                        uint64_t seed);

  core::Batch TrainBatch(int64_t position, int64_t rows) const override;
  void Prefetch(int64_t position, int64_t rows) const override;
  core::Batch ValidationBatch(int64_t begin, int64_t rows) const override;
  std::string Fingerprint() const override;
  int64_t num_train_rows() const override;
  int64_t num_validation_rows() const override { return num_validation_rows_; }
  int64_t validation_bytes() const override { return validation_bytes_; }
  std::string Description() const override;

 private:
  // A run of validation rows of one source.
  struct ValidationRange {
    const RowSource* source;
    int64_t begin, end;
  };
  // Which row of which source is draw `position`.
  struct Draw {
    const RowSource& source;
    int64_t row;
  };
  PackedLoader(std::vector<RowSource> train, std::vector<RowSource> validation, const core::DataConfig& config,
               const Tokenizer& tokenizer, uint64_t seed);
  Draw DrawAt(int64_t position) const;
  void CountValidationBytes(const Tokenizer& tokenizer);

  int64_t length_;
  bool mask_documents_;
  uint64_t seed_;
  std::vector<RowSource> train_, validation_;
  std::optional<Blend> blend_;  // none: nothing to train on
  std::vector<ValidationRange> validation_ranges_;
  int64_t num_validation_rows_ = 0, validation_bytes_ = 0;
};

}  // namespace conclave::data
