// SPDX-License-Identifier: Apache-2.0
// Log-probabilities of the labels of a batch under a model that is not being trained by it: the reference of a policy,
// or the policy itself where its samples have none of their own. Forward passes alone, in the layout of the run, so
// they are the numbers that a training pass would find, to the bit; experts are not counted.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/batch.h"
#include "core/model/model.h"
#include "parallel/executor.h"
#include "parallel/layout.h"

namespace conclave::optim {

class LogProbs {
 public:
  // `model`: of any purpose, created with what the layout says of it; both outlive this object. Memory for batches of
  // up to `max_rows` rows, over all ranks.
  static absl::StatusOr<std::unique_ptr<LogProbs>> Create(core::Model& model, const parallel::Layout& layout,
                                                          int64_t max_rows);

  // Collective: every rank gets those of all rows. out [rows, length], 0 where there is no label. Logits are divided by
  // the temperature.
  void Compute(const core::Batch& batch, float temperature, std::span<float> out);

 private:
  LogProbs(core::Model& model, const parallel::Layout& layout) : model_(model), layout_(layout) {}
  absl::Status Allocate(int64_t max_rows);
  // Puts the rows of this rank in their place among all, as bits; zero stands for what other ranks have.
  void GatherRows(const core::Batch& batch, std::span<float> out);

  core::Model& model_;
  const parallel::Layout& layout_;
  std::unique_ptr<parallel::Executor> executor_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  core::Tensor loss_;       // f64 [1, rows of this rank]
  core::Tensor log_probs_;  // f32 [rows of this rank, length]
  core::Tensor all_bits_;   // i64 [rows, length]
  std::vector<float> local_;
  std::vector<int64_t> bits_;
};

}  // namespace conclave::optim
