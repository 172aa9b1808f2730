// SPDX-License-Identifier: Apache-2.0
// How tokens travel to the ranks of their experts and back. The interface stands here because a MoE block needs it; the local
// version permutes, the one over ranks (parallel/expert_exchange) adds all-to-alls. Begin and End are apart, so that compute
// of another micro-batch can run between them. Legend: T tokens, R routed rows on this rank, k experts per token, D hidden.
#pragma once

#include <cstdint>

#include "core/model/stage_pass.h"

namespace conclave::core {

// Routed rows of one block and micro-batch. Counts live on the device; max_rows is what the host knows.
struct RoutedTokens {
  int64_t max_rows = 0;
  Permutation permutation;  // token and slot; expert and segment offsets (until the weight gradient)
  Tensor x;                 // [max_rows, D] in (expert, row of the batch, position) order; until the weight gradient
  Tensor weight;            // f32 [max_rows] routing weight of each routed row
};

class TokenExchange {
 public:
  virtual ~TokenExchange() = default;

  // Most routed rows that `tokens` tokens of this rank can lead to on this rank.
  virtual int64_t MaxRoutedRows(int64_t tokens) const = 0;

  // x [T, D], experts i32 [T, k] (-1: not routed), weights f32 [T, k]  ->  routed.
  virtual void BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor experts, Tensor weights,
                             RoutedTokens& routed) = 0;
  virtual void EndDispatch(Lane& lane, StagePass& pass, RoutedTokens& routed) = 0;
  // rows [max_rows, D] of the experts; y[t] = shared[t] + its rows in ascending expert order + addend[t].
  virtual void BeginCombine(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor rows) = 0;
  virtual void EndCombine(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor rows, Tensor shared,
                          Tensor addend, Tensor y) = 0;

  // Backward of combine: dy [T, D] -> d_rows [max_rows, D].
  virtual void BeginCombineBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor dy) = 0;
  virtual void EndCombineBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor dy, Tensor d_rows) = 0;
  // Backward of dispatch: d_weight f32 [max_rows] -> d_weights f32 [T, k];
  // dx[t] = shared[t] + its d_rows in ascending expert order + addend[t].
  virtual void BeginDispatchBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor d_rows,
                                     Tensor d_weight, Tensor d_weights) = 0;
  virtual void EndDispatchBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor d_rows, Tensor shared,
                                   Tensor addend, Tensor dx) = 0;
};

// All experts on this rank: a permutation, no communication.
class LocalTokenExchange final : public TokenExchange {
 public:
  LocalTokenExchange(int64_t num_experts, int64_t top_k) : num_experts_(num_experts), top_k_(top_k) {}
  int64_t MaxRoutedRows(int64_t tokens) const override { return tokens * top_k_; }
  void BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor experts, Tensor weights, RoutedTokens& routed) override;
  void EndDispatch(Lane&, StagePass&, RoutedTokens&) override {}
  void BeginCombine(Lane&, StagePass&, const RoutedTokens&, Tensor) override {}
  void EndCombine(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor rows, Tensor shared, Tensor addend,
                  Tensor y) override;
  void BeginCombineBackward(Lane&, StagePass&, const RoutedTokens&, Tensor) override {}
  void EndCombineBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor dy, Tensor d_rows) override;
  void BeginDispatchBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor d_rows, Tensor d_weight,
                             Tensor d_weights) override;
  void EndDispatchBackward(Lane& lane, StagePass& pass, const RoutedTokens& routed, Tensor d_rows, Tensor shared,
                           Tensor addend, Tensor dx) override;

 private:
  int64_t num_experts_, top_k_;
};

}  // namespace conclave::core
