// SPDX-License-Identifier: Apache-2.0
#include "parallel/expert_exchange.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/check.h"

namespace conclave::parallel {

using core::Arena;
using core::DType;
using core::ExchangeRows;
using core::Lane;
using core::PassMode;
using core::Repeats;
using core::RoutedTokens;
using core::StagePass;
using core::Tensor;

namespace {

constexpr size_t kMaxHops = 2;

struct ExpertExchangeState final : core::ExchangeState {
  HopState hops[kMaxHops];
  Tensor experts;                                  // i32 [T, k] of this rank's tokens
  int64_t transfers_begin = 0, transfers_end = 0;  // of what is under way, in StagePass::until_block_end
  std::vector<int32_t> row_offsets;                // of this rank's tokens, an empty row at the end
};

class ExpertExchange final : public core::TokenExchange {
 public:
  ExpertExchange(const ExpertAxis& axis, const ExpertPlacement& placement, ReturnedRows returned, int64_t index);

  const std::vector<int64_t>& local_experts() const override { return experts_; }
  ExchangeRows WorstRows(const StagePass& pass, int64_t top_k) const override;

  void BeginCounts(Lane& lane, StagePass& pass, Tensor experts, RoutedTokens& routed) override;
  void BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor weights, RoutedTokens& routed) override;
  void EndDispatch(Lane& lane, StagePass& pass, RoutedTokens& routed) override;
  void BeginReturn(Lane& lane, StagePass& pass, Tensor rows, Tensor weight, RoutedTokens& routed) override;
  void EndReturn(Lane& lane, StagePass& pass, RoutedTokens& routed) override;
  void BeginGradients(Lane& lane, StagePass& pass, Tensor dy, RoutedTokens& routed) override;
  void EndGradients(Lane& lane, StagePass& pass, RoutedTokens& routed, Tensor d_rows) override;

 private:
  static ExpertExchangeState& StateOf(RoutedTokens& routed);
  // Rows of the batch at the ranks whose tokens member `member` of a hop sends in it.
  int64_t RowsOfMember(const StagePass& pass, size_t hop, int64_t member) const;
  void BeginHopCounts(size_t hop, Lane& lane, StagePass& pass, Tensor experts, std::span<const int32_t> row_offsets,
                      ExpertExchangeState& state) const;
  void EndHopCounts(size_t hop, Lane& lane, StagePass& pass, ExpertExchangeState& state) const;
  void SortByExpert(Lane& lane, StagePass& pass, const HopTokens& tokens, const HopState& last,
                    RoutedTokens& routed) const;

  const ExpertAxis axis_;
  std::vector<int64_t> experts_;      // of this rank
  std::vector<int32_t> local_index_;  // [experts]: place in experts_, -1 elsewhere
  std::vector<ExchangeHop> hops_;
  const int64_t index_;
};

ExpertExchange::ExpertExchange(const ExpertAxis& axis, const ExpertPlacement& placement, ReturnedRows returned,
                               int64_t index)
    : axis_(axis), experts_(placement.ExpertsOf(axis.rank())), index_(index) {
  CHECK_EQ(placement.num_ranks, axis.size());
  for (int rank = 0; rank < axis.size(); ++rank) CHECK(!placement.ExpertsOf(rank).empty());
  const int64_t num_experts = static_cast<int64_t>(placement.rank_of.size());
  local_index_.assign(num_experts, -1);
  for (size_t i = 0; i < experts_.size(); ++i) local_index_[experts_[i]] = static_cast<int32_t>(i);
  if (!axis.second) {
    hops_.emplace_back(*axis.first, placement.rank_of, HopSpan::kAcrossPhases, returned);
    return;
  }
  std::vector<int32_t> node_of = placement.rank_of, rank_in_node(num_experts, -1);
  for (int64_t e = 0; e < num_experts; ++e) {
    node_of[e] = placement.rank_of[e] / axis.second->size();
    if (node_of[e] == axis.first->rank()) rank_in_node[e] = placement.rank_of[e] % axis.second->size();
  }
  hops_.emplace_back(*axis.first, std::move(node_of), HopSpan::kAcrossPhases, returned);
  hops_.emplace_back(*axis.second, std::move(rank_in_node), HopSpan::kWithinPhase, returned);
}

ExpertExchangeState& ExpertExchange::StateOf(RoutedTokens& routed) {
  if (!routed.state) routed.state = std::make_unique<ExpertExchangeState>();
  return static_cast<ExpertExchangeState&>(*routed.state);
}

int64_t ExpertExchange::RowsOfMember(const StagePass& pass, size_t hop, int64_t member) const {
  CHECK_EQ(pass.group_rows.size(), axis_.size());
  if (!axis_.second) return pass.group_rows[member];
  const int64_t per_node = axis_.second->size();
  if (hop == 0) return pass.group_rows[member * per_node + axis_.second->rank()];
  int64_t rows = 0;
  for (int64_t node = 0; node < axis_.first->size(); ++node) rows += pass.group_rows[node * per_node + member];
  return rows;
}

ExchangeRows ExpertExchange::WorstRows(const StagePass& pass, int64_t top_k) const {
  ExchangeRows rows;
  int64_t tokens = pass.num_tokens();
  for (size_t hop = 0; hop < hops_.size(); ++hop) {
    rows.sent[hop] = tokens * std::min<int64_t>(top_k, hops_[hop].size());
    rows.returned[hop] = tokens * std::min(top_k, hops_[hop].num_experts());
    tokens = 0;
    for (int64_t member = 0; member < hops_[hop].size(); ++member) tokens += RowsOfMember(pass, hop, member);
    tokens *= pass.length;
    rows.received[hop] = tokens;
  }
  rows.routed = tokens * std::min(top_k, static_cast<int64_t>(experts_.size()));
  return rows;
}

void ExpertExchange::BeginCounts(Lane& lane, StagePass& pass, Tensor experts, RoutedTokens& routed) {
  ExpertExchangeState& state = StateOf(routed);
  state.experts = experts;
  state.row_offsets.resize(pass.rows + 2);
  for (int64_t row = 0; row <= pass.rows; ++row) state.row_offsets[row] = static_cast<int32_t>(row * pass.length);
  state.row_offsets.back() = static_cast<int32_t>(pass.num_tokens());
  Arena::Scope scope(lane.scratch);
  BeginHopCounts(0, lane, pass, experts, state.row_offsets, state);
}

void ExpertExchange::BeginHopCounts(size_t hop, Lane& lane, StagePass& pass, Tensor experts,
                                    std::span<const int32_t> row_offsets, ExpertExchangeState& state) const {
  HopState& here = state.hops[hop];
  here.member_rows.resize(hops_[hop].size());
  for (size_t m = 0; m < here.member_rows.size(); ++m) {
    here.member_rows[m] = RowsOfMember(pass, hop, static_cast<int64_t>(m));
  }
  hops_[hop].BeginCounts(lane, pass, experts, row_offsets, here);
}

void ExpertExchange::EndHopCounts(size_t hop, Lane& lane, StagePass& pass, ExpertExchangeState& state) const {
  HopState& here = state.hops[hop];
  ExchangeRows& rows = pass.exchange_rows[index_];
  const bool last = hop + 1 == hops_.size();
  if (pass.planning) {
    here.num_sent = rows.sent[hop];
    here.num_received = rows.received[hop];
    here.choices_sent = rows.returned[hop];
    here.choices_received = last ? rows.routed : rows.returned[hop + 1];
  }
  hops_[hop].EndCounts(lane, pass, here);
  rows.sent[hop] = here.num_sent;
  rows.received[hop] = here.num_received;
  rows.returned[hop] = here.choices_sent;
  if (last) rows.routed = here.choices_received;
}

void ExpertExchange::BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor weights, RoutedTokens& routed) {
  ExpertExchangeState& state = StateOf(routed);
  EndHopCounts(0, lane, pass, state);
  state.transfers_begin = pass.until_block_end.used();
  hops_[0].BeginTokens(lane, pass, {.x = x, .experts = state.experts, .weights = weights}, state.hops[0]);
  state.transfers_end = pass.until_block_end.used();
}

void ExpertExchange::EndDispatch(Lane& lane, StagePass& pass, RoutedTokens& routed) {
  ExpertExchangeState& state = StateOf(routed);
  CHECK_EQ(pass.until_block_end.used(), state.transfers_end);
  Arena::Scope scope(lane.scratch);
  HopTokens tokens = hops_[0].EndTokens(lane, state.hops[0]);
  if (axis_.second) {
    BeginHopCounts(1, lane, pass, tokens.experts, state.hops[0].received_rows, state);
    EndHopCounts(1, lane, pass, state);
    hops_[1].BeginTokens(lane, pass, tokens, state.hops[1]);
    tokens = hops_[1].EndTokens(lane, state.hops[1]);
  }
  SortByExpert(lane, pass, tokens, state.hops[hops_.size() - 1], routed);
  // In a forward-only pass the sorted rows lie there, too.
  if (pass.mode != PassMode::kForwardOnly) pass.until_block_end.ReleaseTo(state.transfers_begin);
}

void ExpertExchange::SortByExpert(Lane& lane, StagePass& pass, const HopTokens& tokens, const HopState& last,
                                  RoutedTokens& routed) const {
  Arena &until_weight = pass.SavedForWeightGrad(), &until_input = pass.SavedForInputGrad();
  const int64_t num_experts = static_cast<int64_t>(experts_.size());
  const int64_t t = tokens.x.size(0), k = tokens.experts.size(1);
  const int64_t rows = static_cast<int64_t>(last.received_rows.size()) - 2;
  routed.max_rows = last.choices_received;
  routed.permutation = {.slot = until_input.Allocate(DType::kI32, {t, k}),
                        .token = until_input.Allocate(DType::kI32, {routed.max_rows}),
                        .expert_offsets = until_weight.Allocate(DType::kI32, {num_experts + 1}),
                        .segment_offsets = until_weight.Allocate(DType::kI32, {num_experts * rows + 1})};
  routed.x = until_weight.Allocate(tokens.x.dtype, {routed.max_rows, tokens.x.size(1)});
  routed.weight = until_input.Allocate(DType::kF32, {routed.max_rows});
  const Tensor local = lane.scratch.Allocate(DType::kI32, {t, k});
  lane.kernels.MapExperts(tokens.experts, ToScratch(lane, pass, local_index_), Repeats::kKeep, local);
  const std::span<const int32_t> row_offsets(last.received_rows.data(), rows + 1);
  lane.kernels.BuildPermutation(local, num_experts, ToScratch(lane, pass, row_offsets), routed.permutation);
  lane.kernels.GatherRows(tokens.x, routed.permutation, routed.x);
  lane.kernels.ScatterChoices(tokens.weights, routed.permutation, routed.weight);
}

// Hops end where the next begins: only the first one's rows are on their way between phases.
void ExpertExchange::BeginReturn(Lane& lane, StagePass& pass, Tensor rows, Tensor weight, RoutedTokens& routed) {
  ExpertExchangeState& state = StateOf(routed);
  Arena::Scope scope(lane.scratch);
  ChoiceRows back{.rows = rows,
                  .row_slot = routed.permutation.slot,
                  .weight = weight,
                  .weight_slot = routed.permutation.slot,
                  .offsets = routed.permutation.expert_offsets};
  if (axis_.second) {
    hops_[1].BeginReturn(lane, pass, back, state.hops[1]);
    back = hops_[1].EndReturn(lane, state.hops[1]);
  }
  hops_[0].BeginReturn(lane, pass, back, state.hops[0]);
}

void ExpertExchange::EndReturn(Lane& lane, StagePass&, RoutedTokens& routed) {
  const ChoiceRows home = hops_[0].EndReturn(lane, StateOf(routed).hops[0]);
  routed.home_rows = home.rows;
  routed.home_slot = home.row_slot;
  routed.home_weight = home.weight;
  routed.home_weight_slot = home.weight_slot;
}

void ExpertExchange::BeginGradients(Lane& lane, StagePass& pass, Tensor dy, RoutedTokens& routed) {
  ExpertExchangeState& state = StateOf(routed);
  state.transfers_begin = pass.until_block_end.used();
  hops_[0].BeginGradients(lane, pass, dy, state.hops[0]);
  state.transfers_end = pass.until_block_end.used();
}

void ExpertExchange::EndGradients(Lane& lane, StagePass& pass, RoutedTokens& routed, Tensor d_rows) {
  ExpertExchangeState& state = StateOf(routed);
  CHECK_EQ(pass.until_block_end.used(), state.transfers_end);
  Arena::Scope scope(lane.scratch);
  Tensor dy = hops_[0].EndGradients(lane, state.hops[0]);
  if (axis_.second) {
    hops_[1].BeginGradients(lane, pass, dy, state.hops[1]);
    dy = hops_[1].EndGradients(lane, state.hops[1]);
  }
  lane.kernels.GatherRows(dy, routed.permutation, d_rows);
  pass.until_block_end.ReleaseTo(state.transfers_begin);
}

}  // namespace

std::unique_ptr<core::TokenExchange> MakeExpertExchange(const ExpertAxis& axis, const ExpertPlacement& placement,
                                                        ReturnedRows returned, int64_t index) {
  return std::make_unique<ExpertExchange>(axis, placement, returned, index);
}

}  // namespace conclave::parallel
