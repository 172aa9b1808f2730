// SPDX-License-Identifier: Apache-2.0
// What a student learns from: the teacher's hidden states behind its final norm at every position of a batch. Its head
// makes the distributions of them, in the student's loss alone, so that no distribution is ever stored or sent. Both
// models run the same schedule on the same rows, so the states are made on the rank that reads them, whatever the
// layout.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "core/model/batch.h"
#include "core/model/model.h"
#include "parallel/executor.h"
#include "parallel/layout.h"

namespace conclave::optim {

class Teacher {
 public:
  // `model`: for passes alone, created with what the layout says of it; both outlive this object. `layout`: of the
  // teacher, from the student's config. Memory for batches of up to `max_rows` rows, over all ranks.
  static absl::StatusOr<std::unique_ptr<Teacher>> Create(core::Model& model, const parallel::Layout& layout,
                                                         int64_t max_rows);

  // Collective. The states of a batch, until the next call.
  void Compute(const core::Batch& batch);

  // [rows of this rank, length, hidden] in the compute dtype, on ranks with the loss; else empty. Always the same
  // memory.
  core::Tensor hidden() const { return hidden_; }
  // Of this rank's stage with the loss; without panels where there is none.
  core::PackedWeight head() const;
  // Of states and passes.
  int64_t bytes() const { return hidden_.Bytes() + executor_->activation_bytes(); }

 private:
  Teacher(core::Model& model, const parallel::Layout& layout) : model_(model), layout_(layout) {}
  const core::Stage* LossStage() const;  // of this rank

  core::Model& model_;
  const parallel::Layout& layout_;
  std::unique_ptr<parallel::Executor> executor_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  core::Tensor hidden_;
};

}  // namespace conclave::optim
