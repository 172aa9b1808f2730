// SPDX-License-Identifier: Apache-2.0
// From sources to batches. Documents are cut into rows in file order; the order of rows in training is a keyed
// permutation per epoch, so a batch is a pure function of (config, seed, position): nothing to save but an integer.
// Tokens stay in mapped files (token_cache.h): memory does not grow with the data.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/batch.h"
#include "data/load_options.h"
#include "data/tokenizer.h"

namespace conclave::data {

// Of a training source with `rows` rows: floor(rows x fraction), at least one where there are two.
int64_t NumHeldOutRows(int64_t rows, double fraction);

class Loader {
 public:
  // Tokenizes what is not in the cache. `tasks`: those that sources may name. vocab_size bounds the ids of `synthetic:
  // uniform` and of token files. Errors name file and line; Cancelled if the options say stop.
  static absl::StatusOr<std::unique_ptr<Loader>> Create(const core::DataConfig& config, const Tokenizer& tokenizer,
                                                        int64_t vocab_size, uint64_t seed,
                                                        const LoadOptions& options = {},
                                                        std::span<const core::TaskConfig> tasks = {});
  virtual ~Loader() = default;

  // Training rows [position, position + rows) of the endless permuted stream.
  virtual core::Batch TrainBatch(int64_t position, int64_t rows) const = 0;
  // Starts to read those rows from disk, for a TrainBatch to come.
  virtual void Prefetch(int64_t position, int64_t rows) const = 0;

  virtual int64_t num_train_rows() const = 0;       // of one epoch
  virtual int64_t num_validation_rows() const = 0;  // 0: no validation data
  // Validation rows [begin, begin + rows) in file order; rows beyond the end are padding.
  virtual core::Batch ValidationBatch(int64_t begin, int64_t rows) const = 0;
  // Bytes of text that the labels of the validation rows stand for (for bits per byte).
  virtual int64_t validation_bytes() const = 0;

  // 32 hexadecimal digits over the rows that the sources give: the tokens themselves, how they are cut and masked.
  virtual std::string Fingerprint() const = 0;

  // One line for the banner: "3 documents, 1,115,394 bytes, 4,358 rows of 256 tokens; validation 230 rows".
  virtual std::string Description() const = 0;
};

}  // namespace conclave::data
