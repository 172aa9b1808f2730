// SPDX-License-Identifier: Apache-2.0
// Router replay: which experts the weights at the beginning of a few updates chose, by token and MoE block of this
// rank, so that all of these updates send tokens there. The rows of a batch are split alike each time, so what a pass
// records lies where a later one reads it: on the same rank, and in memory that is planned before step 1.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "core/model/model.h"

namespace conclave::optim {

// What a pass over a batch does with choices.
struct ReplayUse {
  core::RouterChoices::Use use = core::RouterChoices::Use::kRecord;
  int64_t batch = 0;  // which of those that are recorded
};

class RouterReplay {
 public:
  // Of `batches` batches, of each of which at most `rows` rows of `length` tokens are here.
  static absl::StatusOr<std::unique_ptr<RouterReplay>> Create(core::Model& model, int64_t batches, int64_t rows,
                                                              int64_t length);
  int64_t bytes() const { return memory_->bytes(); }
  // As a pass over `rows` rows of this rank takes them (StepStatistics::choices).
  core::RouterChoices Choices(const ReplayUse& use, int64_t rows) const;

 private:
  RouterReplay() = default;

  std::unique_ptr<core::DeviceBuffer> memory_;
  core::Tensor experts_;  // i32 [batches x MoE blocks, rows, S, k]
  int64_t blocks_ = 0;    // MoE blocks of this rank's stages, without multi-token prediction
};

}  // namespace conclave::optim
