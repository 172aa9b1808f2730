// SPDX-License-Identifier: Apache-2.0
#include "core/model/token_exchange.h"

namespace conclave::core {

void LocalTokenExchange::BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor experts, Tensor weights,
                                       RoutedTokens& routed) {
  const int64_t tokens = x.size(0);
  Arena& until_weight = pass.SavedForWeightGrad();
  Arena& until_input = pass.SavedForInputGrad();
  routed.max_rows = MaxRoutedRows(tokens);
  routed.permutation = {.slot = until_input.Allocate(DType::kI32, {tokens, top_k_}),
                        .token = until_input.Allocate(DType::kI32, {routed.max_rows}),
                        .expert_offsets = until_weight.Allocate(DType::kI32, {num_experts_ + 1}),
                        .segment_offsets = until_weight.Allocate(DType::kI32, {num_experts_ * pass.rows + 1})};
  lane.kernels.BuildPermutation(experts, num_experts_, pass.rows, routed.permutation);
  routed.x = until_weight.Allocate(x.dtype, {routed.max_rows, x.size(1)});
  lane.kernels.GatherRows(x, routed.permutation, routed.x);
  routed.weight = until_input.Allocate(DType::kF32, {routed.max_rows});
  lane.kernels.ScatterChoices(weights, routed.permutation, routed.weight);
}

void LocalTokenExchange::EndCombine(Lane& lane, StagePass&, const RoutedTokens& routed, Tensor rows, Tensor shared,
                                    Tensor addend, Tensor y) {
  lane.kernels.Combine({.rows = rows, .slot = routed.permutation.slot, .shared = shared, .addend = addend, .y = y});
}

void LocalTokenExchange::EndCombineBackward(Lane& lane, StagePass&, const RoutedTokens& routed, Tensor dy,
                                            Tensor d_rows) {
  lane.kernels.GatherRows(dy, routed.permutation, d_rows);
}

void LocalTokenExchange::BeginDispatchBackward(Lane& lane, StagePass&, const RoutedTokens& routed, Tensor,
                                               Tensor d_weight, Tensor d_weights) {
  lane.kernels.GatherChoices(d_weight, routed.permutation, d_weights);
}

void LocalTokenExchange::EndDispatchBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor d_rows,
                                             Tensor shared, Tensor addend, Tensor dx) {
  EndCombine(lane, pass, routed, d_rows, shared, addend, dx);
}

}  // namespace conclave::core
