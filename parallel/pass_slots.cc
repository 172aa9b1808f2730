// SPDX-License-Identifier: Apache-2.0
#include "parallel/pass_slots.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace conclave::parallel {
namespace {

// The lifetimes in the order of the records.
constexpr int64_t core::PassMemory::*kLifetimes[] = {&core::PassMemory::until_input_grad,
                                                     &core::PassMemory::until_weight_grad,
                                                     &core::PassMemory::until_block_end, &core::PassMemory::scratch};

}  // namespace

absl::StatusOr<std::unique_ptr<PassSlots>> PassSlots::Create(core::Model& model, const core::Stage& stage,
                                                             const core::PassMemory& largest, Slots slots) {
  std::unique_ptr<PassSlots> out(new PassSlots(model, stage));
  const int64_t inputs = std::max(slots.until_input_grad, 1), weights = std::max(slots.until_weight_grad, 1);
  const int64_t bytes = inputs * largest.until_input_grad + weights * largest.until_weight_grad;
  ASSIGN_OR_RETURN(out->memory_, model.device().Allocate(bytes, "activations"));
  char* next = static_cast<char*>(out->memory_->data());
  out->input_bytes_ = largest.until_input_grad;
  for (int64_t i = 0; i < inputs; ++i, next += largest.until_input_grad) {
    out->input_memory_.push_back(next);
    out->free_input_memory_.push_back(static_cast<int>(i));
  }
  for (int64_t i = 0; i < weights; ++i, next += largest.until_weight_grad) {
    out->slots_.push_back(std::make_unique<PassSlot>());
    out->slots_.back()->pass.until_weight_grad.Attach(next, largest.until_weight_grad);
  }
  return out;
}

PassSlot& PassSlots::Acquire(int micro, const core::PassShape& shape) {
  for (const auto& slot : slots_) {
    if (slot->micro >= 0) continue;
    CHECK(!free_input_memory_.empty());
    slot->micro = micro;
    slot->shape = shape;
    slot->input_memory = free_input_memory_.back();
    free_input_memory_.pop_back();
    slot->scratch_peak = slot->block_end_peak = 0;
    slot->pass.Reset();
    slot->pass.until_input_grad.Attach(input_memory_[slot->input_memory], input_bytes_);
    slot->pass.until_weight_grad.ResetPeak();
    core::AllocateTokens(slot->pass, shape, stage_.config().num_nextn_predict_layers);
    last_ = slot.get();
    return *slot;
  }
  CHECK(false);
  return *slots_[0];
}

PassSlot& PassSlots::Find(int micro) {
  const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const auto& slot) { return slot->micro == micro; });
  CHECK(found != slots_.end());
  return **found;
}

void PassSlots::Enter(PassSlot& slot, LaneMemory& lane) const {
  slot.pass.until_block_end.Reset();
  slot.pass.until_block_end.Attach(lane.block_end, lane.block_end_bytes);
  lane.scratch.ResetPeak();
}

void PassSlots::Leave(PassSlot& slot, LaneMemory& lane) const {
  slot.block_end_peak = std::max(slot.block_end_peak, slot.pass.until_block_end.peak());
  slot.scratch_peak = std::max(slot.scratch_peak, lane.scratch.peak());
}

void PassSlots::ReleaseInput(PassSlot& slot) {
  if (slot.input_memory < 0) return;
  free_input_memory_.push_back(slot.input_memory);
  slot.input_memory = -1;
}

void PassSlots::Release(PassSlot& slot) {
  ReleaseInput(slot);
  Note(slot);
  slot.micro = -1;
}

void PassSlots::Note(const PassSlot& slot) {
  const core::PassMemory here = {.until_input_grad = slot.pass.until_input_grad.peak(),
                                 .until_weight_grad = slot.pass.until_weight_grad.peak(),
                                 .until_block_end = slot.block_end_peak,
                                 .scratch = slot.scratch_peak};
  for (size_t i = 0; i < records_.size(); ++i) {
    if (here.*kLifetimes[i] <= measured_.*kLifetimes[i]) continue;
    measured_.*kLifetimes[i] = here.*kLifetimes[i];
    records_[i].shape = slot.shape;
    records_[i].exchange_rows = slot.pass.exchange_rows;
  }
}

bool PassSlots::MeasuredAsPlanned() const {
  for (size_t i = 0; i < records_.size(); ++i) {
    if (measured_.*kLifetimes[i] == 0) continue;
    const core::PassMemory plan = core::PlanPass(stage_, model_.device(), model_.stream(), model_.kernels(),
                                                 records_[i].shape, records_[i].exchange_rows);
    if (plan.*kLifetimes[i] != measured_.*kLifetimes[i]) return false;
  }
  return true;
}

}  // namespace conclave::parallel
