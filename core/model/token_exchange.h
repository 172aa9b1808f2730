// SPDX-License-Identifier: Apache-2.0
// How tokens travel to the ranks of their experts and back. The interface stands here because a MoE block needs it; the
// local version permutes, the one over ranks (parallel/expert_exchange.h) adds all-to-alls. Begin and End stand in
// different phases of a block, so that compute of another micro-batch can run between them:
//
//   phase      forward                            backward
//   Attention  BeginCounts
//   Dispatch   BeginDispatch                      EndReturn
//   Experts    EndDispatch .. BeginReturn         EndGradients .. BeginReturn
//   Combine    EndReturn                          BeginGradients
//
// What comes home is one row for each choice of a token, unsummed; the block adds them in ascending order of experts.
// An exchange that gives up equal bits may bring home sums of them. Legend: T tokens of this rank; R routed rows on
// this rank; k experts per token; E experts of this rank; D hidden.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/model/stage_pass.h"

namespace conclave::core {

// What an implementation keeps of one exchange from its first call to its last, beside tensors.
class ExchangeState {
 public:
  virtual ~ExchangeState() = default;
};

// Routed rows of one block and micro-batch. Counts live on the device; max_rows is what the host knows from EndDispatch
// on.
struct RoutedTokens {
  int64_t max_rows = 0;
  Permutation permutation;  // of this rank's experts; expert and segment offsets until the weight gradient
  Tensor x;                 // [max_rows, D] in (expert, row of the batch, position) order; until the weight gradient
  Tensor weight;            // f32 [max_rows] routing weight of each routed row
  // At the tokens' home.
  Tensor home_slot;         // i32 [T, k]: which home row belongs to (token, choice); -1: none
  Tensor home_rows;         // [home rows, D], from EndReturn until the block ends
  Tensor home_weight_slot;  // i32 [T, k]: which home weight belongs to (token, choice); -1 for padding
  Tensor home_weight;       // f32 [choices], from EndReturn until the block ends, where weights were returned
  std::unique_ptr<ExchangeState> state = {};
};

class TokenExchange {
 public:
  virtual ~TokenExchange() = default;

  // Nothing else is allocated in StagePass::until_block_end between BeginDispatch and EndDispatch, nor between
  // BeginGradients and EndGradients: their buffers are freed there, except in a forward-only pass.

  // Experts on this rank, ascending: the matrices of its grouped products.
  virtual const std::vector<int64_t>& local_experts() const = 0;
  // The most rows that `pass` can lead to, for plans.
  virtual ExchangeRows WorstRows(const StagePass& pass, int64_t top_k) const = 0;

  // Tells the receivers how much will come. experts i32 [T, k] (-1: not routed), until the input gradient.
  virtual void BeginCounts(Lane& lane, StagePass& pass, Tensor experts, RoutedTokens& routed) = 0;
  // x [T, D], weights f32 [T, k]  ->  routed.permutation, x, weight, max_rows.
  virtual void BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor weights, RoutedTokens& routed) = 0;
  virtual void EndDispatch(Lane& lane, StagePass& pass, RoutedTokens& routed) = 0;
  // rows [max_rows, D], weight f32 [max_rows] (optional)  ->  routed.home_rows, home_weight. Both live until EndReturn.
  virtual void BeginReturn(Lane& lane, StagePass& pass, Tensor rows, Tensor weight, RoutedTokens& routed) = 0;
  virtual void EndReturn(Lane& lane, StagePass& pass, RoutedTokens& routed) = 0;
  // dy [T, D], until EndGradients  ->  d_rows [max_rows, D]: the gradient of what Return brought home.
  virtual void BeginGradients(Lane& lane, StagePass& pass, Tensor dy, RoutedTokens& routed) = 0;
  virtual void EndGradients(Lane& lane, StagePass& pass, RoutedTokens& routed, Tensor d_rows) = 0;
};

// Makes the exchange of one MoE layer; `index` counts the MoE blocks of a stage and is its place in
// StagePass::exchange_rows.
using ExchangeFactory = std::function<std::unique_ptr<TokenExchange>(int64_t layer, int64_t index)>;

// All experts on this rank: a permutation, no communication.
std::unique_ptr<TokenExchange> MakeLocalTokenExchange(int64_t num_experts, int64_t index);

}  // namespace conclave::core
