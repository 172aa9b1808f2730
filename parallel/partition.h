// SPDX-License-Identifier: Apache-2.0
// Which layers a stage holds and which rows a rank computes: the two cuts of a step. Both are pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/model_config.h"
#include "core/model/stage.h"

namespace conclave::parallel {

// Cuts the layers into `num_stages` runs so that the most expensive one costs least; of equal cuts the one whose later
// stages are longer, because the first stages hold most micro-batches. `block_costs`: one per layer; embedding and loss
// unit (head, multi-token prediction) weigh on the first and the last. An error if there are more stages than layers.
absl::StatusOr<std::vector<core::StagePart>> CutIntoStages(const std::vector<double>& block_costs,
                                                           double embedding_cost, double loss_cost, int num_stages);
// The same with the FLOPs of the model's graph as costs.
absl::StatusOr<std::vector<core::StagePart>> CutIntoStages(const core::ModelConfig& config, int64_t sequence_length,
                                                           int num_stages);

// Rows of the global batch dealt to data ranks in order, then cut into equally many micro-batches on each; those at the
// end of a rank may be short or empty.
struct BatchSplit {
  int64_t batch_rows = 0;  // of the global batch
  int64_t data_ranks = 1;
  int64_t micro_rows = 1;
  int64_t num_micro = 0;  // 0: as many as the rows need

  // Of any number of rows: as many micro-batches as `largest` has, of equal size as far as they go.
  static BatchSplit Like(const BatchSplit& largest, int64_t batch_rows) {
    BatchSplit split{batch_rows, largest.data_ranks, 1, largest.NumMicro()};
    split.micro_rows = std::max<int64_t>((split.MostRows() + split.num_micro - 1) / split.num_micro, 1);
    return split;
  }

  int64_t Begin(int64_t data_rank) const { return batch_rows * data_rank / data_ranks; }
  int64_t Rows(int64_t data_rank) const { return Begin(data_rank + 1) - Begin(data_rank); }
  int64_t MostRows() const { return (batch_rows + data_ranks - 1) / data_ranks; }
  int64_t NumMicro() const {
    return num_micro > 0 ? num_micro : std::max<int64_t>((MostRows() + micro_rows - 1) / micro_rows, 1);
  }
  // Rows of one micro-batch, and where they begin in the global batch.
  int64_t MicroRows(int64_t data_rank, int64_t micro) const {
    return std::clamp<int64_t>(Rows(data_rank) - micro * micro_rows, 0, micro_rows);
  }
  int64_t MicroBegin(int64_t data_rank, int64_t micro) const { return Begin(data_rank) + micro * micro_rows; }
};

}  // namespace conclave::parallel
