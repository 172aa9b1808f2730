// SPDX-License-Identifier: Apache-2.0
#include "parallel/exchange_hop.h"

#include <algorithm>

namespace conclave::parallel {

using core::Arena;
using core::DType;
using core::Lane;
using core::Permutation;
using core::Repeats;
using core::StagePass;
using core::Tensor;

namespace {

// offsets[m] = entries of members before m.
template <class Count>
void SetOffsets(size_t members, Count count, std::vector<int64_t>& offsets) {
  offsets.resize(members + 1);
  offsets[0] = 0;
  for (size_t m = 0; m < members; ++m) offsets[m + 1] = offsets[m] + count(m);
}

}  // namespace

Tensor ToScratch(Lane& lane, const StagePass& pass, std::span<const int32_t> values) {
  const Tensor tensor = lane.scratch.Allocate(DType::kI32, {static_cast<int64_t>(values.size())});
  if (!pass.planning) lane.device.CopyToDevice(lane.stream, values.data(), tensor);
  return tensor;
}

int64_t ExchangeHop::num_experts() const {
  return std::count_if(member_of_.begin(), member_of_.end(), [](int32_t member) { return member >= 0; });
}

// The offsets of a permutation's segments are the counts: those of one member's rows, with where the next empty row
// begins, say how many tokens each row has.
void ExchangeHop::BeginCounts(Lane& lane, StagePass& pass, Tensor experts, std::span<const int32_t> row_offsets,
                              HopState& state) const {
  Arena &saved = pass.SavedForInputGrad(), &buffers = Buffers(lane, pass);
  const int64_t t = experts.size(0), k = experts.size(1), members = size();
  const int64_t rows = static_cast<int64_t>(row_offsets.size()) - 1;
  Arena& copy_slots = returned_ == ReturnedRows::kSummed ? saved : lane.scratch;
  state.copies = {.slot = copy_slots.Allocate(DType::kI32, {t, k}),
                  .token = saved.Allocate(DType::kI32, {t * std::min(k, members)}),
                  .expert_offsets = saved.Allocate(DType::kI32, {members + 1}),
                  .segment_offsets = buffers.Allocate(DType::kI32, {members * rows + 1})};
  state.choices = {.slot = saved.Allocate(DType::kI32, {t, k}),
                   .token = lane.scratch.Allocate(DType::kI32, {t * k}),
                   .expert_offsets = saved.Allocate(DType::kI32, {members + 1}),
                   .segment_offsets = buffers.Allocate(DType::kI32, {members * rows + 1})};
  const Tensor map = ToScratch(lane, pass, member_of_), offsets = ToScratch(lane, pass, row_offsets);
  const Tensor targets = lane.scratch.Allocate(DType::kI32, {t, k});
  lane.kernels.MapExperts(experts, map, Repeats::kOnce, targets);
  lane.kernels.BuildPermutation(targets, members, offsets, state.copies);
  lane.kernels.MapExperts(experts, map, Repeats::kKeep, targets);
  lane.kernels.BuildPermutation(targets, members, offsets, state.choices);
  SetOffsets(
      members, [&](size_t) { return rows; }, state.count_offsets.sent);
  SetOffsets(
      members, [&](size_t m) { return state.member_rows[m] + 1; }, state.count_offsets.received);
  state.copy_counts = BeginCount(lane, pass, state.copies.segment_offsets, state);
  state.choice_counts = BeginCount(lane, pass, state.choices.segment_offsets, state);
}

Transfer ExchangeHop::BeginCount(Lane& lane, StagePass& pass, Tensor starts, const HopState& state) const {
  const Tensor received = Buffers(lane, pass).Allocate(DType::kI32, {state.count_offsets.received.back()});
  return Begin(lane, pass, starts, state.count_offsets.sent, received, state.count_offsets.received);
}

void ExchangeHop::EndCounts(Lane& lane, StagePass& pass, HopState& state) const {
  int64_t rows = 0;
  for (int64_t each : state.member_rows) rows += each;
  state.received_rows.assign(rows + 2, 0);
  if (pass.planning) return;
  EndCount(lane, state.choice_counts, state.choices.expert_offsets, state, state.choice_offsets);
  EndCount(lane, state.copy_counts, state.copies.expert_offsets, state, state.copy_offsets);
  // host_received still holds the starts of the copies' rows.
  int32_t* row = state.received_rows.data();
  for (int64_t m = 0; m < size(); ++m) {
    const int32_t* const starts = state.host_received.data() + state.count_offsets.received[m];
    for (int64_t r = 0; r < state.member_rows[m]; ++r, ++row) row[1] = row[0] + starts[r + 1] - starts[r];
  }
  row[1] = row[0];
  state.num_sent = state.copy_offsets.sent.back();
  state.num_received = state.copy_offsets.received.back();
  state.choices_sent = state.choice_offsets.sent.back();
  state.choices_received = state.choice_offsets.received.back();
}

void ExchangeHop::EndCount(Lane& lane, Transfer& counts, Tensor sent_offsets, HopState& state,
                           MemberOffsets& offsets) const {
  const Tensor received = End(lane, counts);
  state.host_sent.resize(sent_offsets.Elements());
  state.host_received.resize(received.Elements());
  lane.device.CopyToHost(lane.stream, sent_offsets, state.host_sent.data());
  lane.device.CopyToHost(lane.stream, received, state.host_received.data());
  lane.device.Synchronize(lane.stream);
  offsets.sent.assign(state.host_sent.begin(), state.host_sent.end());
  const auto& starts = state.count_offsets.received;
  SetOffsets(
      size(), [&](size_t m) { return state.host_received[starts[m + 1] - 1] - state.host_received[starts[m]]; },
      offsets.received);
}

void ExchangeHop::BeginTokens(Lane& lane, StagePass& pass, const HopTokens& tokens, HopState& state) const {
  state.experts = BeginCopies(lane, pass, tokens.experts, state);
  state.weights = BeginCopies(lane, pass, tokens.weights, state);
  state.x = BeginCopies(lane, pass, tokens.x, state);
}

HopTokens ExchangeHop::EndTokens(Lane& lane, HopState& state) const {
  return {.x = End(lane, state.x), .experts = End(lane, state.experts), .weights = End(lane, state.weights)};
}

void ExchangeHop::BeginGradients(Lane& lane, StagePass& pass, Tensor dy, HopState& state) const {
  state.x = BeginCopies(lane, pass, dy, state);
}

Tensor ExchangeHop::EndGradients(Lane& lane, HopState& state) const { return End(lane, state.x); }

void ExchangeHop::BeginReturn(Lane& lane, StagePass& pass, const ChoiceRows& rows, HopState& state) const {
  const bool summed = returned_ == ReturnedRows::kSummed;
  Permutation order{.slot = {}, .token = {}, .expert_offsets = rows.offsets, .segment_offsets = {}};
  if (!summed || rows.weight) {
    order.token = lane.scratch.Allocate(DType::kI32, {state.choices_received});
    lane.kernels.ListSlots(rows.weight_slot, order.token);
  }
  if (summed) {
    const int64_t hidden = rows.rows.size(1);
    const Tensor sums = Buffers(lane, pass).Allocate(rows.rows.dtype, {state.num_received, hidden});
    lane.kernels.Combine({.rows = rows.rows, .slot = rows.row_slot, .shared = {}, .addend = {}, .y = sums});
    const Tensor home = Buffers(lane, pass).Allocate(rows.rows.dtype, {state.num_sent, hidden});
    state.rows = Begin(lane, pass, sums, state.copy_offsets.received, home, state.copy_offsets.sent);
  } else {
    state.rows = BeginChoices(lane, pass, rows.rows, order, state);
  }
  state.weight = rows.weight ? BeginChoices(lane, pass, rows.weight.SplitLast(1), order, state) : Transfer();
}

ChoiceRows ExchangeHop::EndReturn(Lane& lane, HopState& state) const {
  const Tensor weight = End(lane, state.weight);
  return {.rows = End(lane, state.rows),
          .row_slot = returned_ == ReturnedRows::kSummed ? state.copies.slot : state.choices.slot,
          .weight = weight ? weight.MergeFirst() : Tensor(),
          .weight_slot = state.choices.slot,
          .offsets = state.choices.expert_offsets};
}

Transfer ExchangeHop::BeginCopies(Lane& lane, StagePass& pass, Tensor x, const HopState& state) const {
  const Tensor packed = Buffers(lane, pass).Allocate(x.dtype, {state.num_sent, x.size(1)});
  lane.kernels.GatherRows(x, state.copies, packed);
  const Tensor received = Buffers(lane, pass).Allocate(x.dtype, {state.num_received, x.size(1)});
  return Begin(lane, pass, packed, state.copy_offsets.sent, received, state.copy_offsets.received);
}

Transfer ExchangeHop::BeginChoices(Lane& lane, StagePass& pass, Tensor rows, const Permutation& order,
                                   const HopState& state) const {
  const Tensor packed = Buffers(lane, pass).Allocate(rows.dtype, {state.choices_received, rows.size(1)});
  lane.kernels.GatherRows(rows, order, packed);
  const Tensor home = Buffers(lane, pass).Allocate(rows.dtype, {state.choices_sent, rows.size(1)});
  return Begin(lane, pass, packed, state.choice_offsets.received, home, state.choice_offsets.sent);
}

Transfer ExchangeHop::Begin(Lane& lane, StagePass& pass, Tensor send, std::span<const int64_t> send_offsets,
                            Tensor receive, std::span<const int64_t> receive_offsets) const {
  if (pass.planning) return {send, receive, {}};
  return {send, receive, comm_.AllToAll(lane.stream, send, send_offsets, receive, receive_offsets)};
}

Tensor ExchangeHop::End(Lane& lane, Transfer& transfer) const {
  if (transfer.ticket) comm_.Wait(lane.stream, transfer.ticket);
  transfer.ticket = {};
  return transfer.received;
}

}  // namespace conclave::parallel
