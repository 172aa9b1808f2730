// SPDX-License-Identifier: Apache-2.0
// Memory for the micro-batches of one stage on this rank. A schedule says how many are alive at once, by lifetime
// (CountSlots), the plan of a pass how many bytes each takes: so memory is a number known before step 1, and a run
// checks that it was right.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/model.h"
#include "parallel/comm.h"
#include "parallel/schedule.h"

namespace conclave::parallel {

// A stream and the temporary memory of the pass that runs on it: two of them where a forward and a backward take turns.
struct LaneMemory {
  explicit LaneMemory(core::Model& model) : lane{model.kernels(), scratch, model.device(), model.stream()} {}
  core::Arena scratch{"scratch"};
  core::Lane lane;
  void* block_end = nullptr;
  int64_t block_end_bytes = 0;
};

// A micro-batch on its way through a stage.
struct PassSlot {
  int micro = -1;  // -1: free
  core::PassShape shape;
  core::StagePass pass;
  core::StageSaved saved;
  int input_memory = -1;  // which memory until the input gradient it has
  int64_t scratch_peak = 0, block_end_peak = 0;
  Ticket output_sent;  // of what went on to the next stage
};

class PassSlots {
 public:
  // `largest`: the plan of the largest pass; at least one slot of each kind.
  static absl::StatusOr<std::unique_ptr<PassSlots>> Create(core::Model& model, const core::Stage& stage,
                                                           const core::PassMemory& largest, Slots slots);

  const core::Stage& stage() const { return stage_; }
  int64_t bytes() const { return memory_->bytes(); }
  // A free slot for a micro-batch, with memory until both gradients. CHECKs that there is one: the schedule said so.
  PassSlot& Acquire(int micro, const core::PassShape& shape);
  PassSlot& Find(int micro);
  // Lends the lane's temporary memory to a pass for one action, and takes it back.
  void Enter(PassSlot& slot, LaneMemory& lane) const;
  void Leave(PassSlot& slot, LaneMemory& lane) const;
  // Its input gradient is done: the memory until then is free for another.
  void ReleaseInput(PassSlot& slot);
  void Release(PassSlot& slot);

  // The last pass that was acquired; its tensors stay until another takes the slot.
  PassSlot& last() { return *last_; }
  const core::PassMemory& measured() const { return measured_; }
  // Whether each lifetime's largest measured size is what the plan says for the rows that its pass exchanged.
  bool MeasuredAsPlanned() const;

 private:
  PassSlots(core::Model& model, const core::Stage& stage) : model_(model), stage_(stage) {}
  void Note(const PassSlot& slot);

  // A pass with the largest of some lifetime: what its plan follows from.
  struct Record {
    core::PassShape shape;
    std::vector<core::ExchangeRows> exchange_rows;
  };

  core::Model& model_;
  const core::Stage& stage_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  std::vector<std::unique_ptr<PassSlot>> slots_;
  std::vector<void*> input_memory_;
  std::vector<int> free_input_memory_;
  int64_t input_bytes_ = 0;
  PassSlot* last_ = nullptr;
  core::PassMemory measured_;
  std::array<Record, 4> records_;  // by lifetime
};

}  // namespace conclave::parallel
