// SPDX-License-Identifier: Apache-2.0
#include "core/model/token_exchange.h"

#include <numeric>
#include <vector>

namespace conclave::core {
namespace {

class LocalTokenExchange final : public TokenExchange {
 public:
  LocalTokenExchange(int64_t num_experts, int64_t index) : experts_(num_experts), index_(index) {
    std::iota(experts_.begin(), experts_.end(), 0);
  }

  const std::vector<int64_t>& local_experts() const override { return experts_; }
  ExchangeRows WorstRows(const StagePass& pass, int64_t top_k) const override {
    return {.routed = pass.num_tokens() * top_k};
  }

  void BeginCounts(Lane& lane, StagePass& pass, Tensor experts, RoutedTokens& routed) override {
    Arena &until_weight = pass.SavedForWeightGrad(), &until_input = pass.SavedForInputGrad();
    const int64_t num_experts = static_cast<int64_t>(experts_.size());
    routed.max_rows = experts.Elements();
    pass.exchange_rows[index_].routed = routed.max_rows;
    routed.permutation = {.slot = until_input.Allocate(DType::kI32, {experts.size(0), experts.size(1)}),
                          .token = until_input.Allocate(DType::kI32, {routed.max_rows}),
                          .expert_offsets = until_weight.Allocate(DType::kI32, {num_experts + 1}),
                          .segment_offsets = until_weight.Allocate(DType::kI32, {num_experts * pass.rows + 1})};
    routed.home_slot = routed.home_weight_slot = routed.permutation.slot;
    lane.kernels.BuildPermutation(experts, num_experts, pass.row_offsets, routed.permutation);
  }

  void BeginDispatch(Lane& lane, StagePass& pass, Tensor x, Tensor weights, RoutedTokens& routed) override {
    routed.x = pass.SavedForWeightGrad().Allocate(x.dtype, {routed.max_rows, x.size(1)});
    lane.kernels.GatherRows(x, routed.permutation, routed.x);
    routed.weight = pass.SavedForInputGrad().Allocate(DType::kF32, {routed.max_rows});
    lane.kernels.ScatterChoices(weights, routed.permutation, routed.weight);
  }
  void EndDispatch(Lane&, StagePass&, RoutedTokens&) override {}

  void BeginReturn(Lane&, StagePass&, Tensor rows, Tensor weight, RoutedTokens& routed) override {
    routed.home_rows = rows;
    routed.home_weight = weight;
  }
  void EndReturn(Lane&, StagePass&, RoutedTokens&) override {}

  void BeginGradients(Lane&, StagePass&, Tensor dy, RoutedTokens& routed) override { routed.home_rows = dy; }
  void EndGradients(Lane& lane, StagePass&, RoutedTokens& routed, Tensor d_rows) override {
    lane.kernels.GatherRows(routed.home_rows, routed.permutation, d_rows);
  }

 private:
  std::vector<int64_t> experts_;
  int64_t index_;
};

}  // namespace

std::unique_ptr<TokenExchange> MakeLocalTokenExchange(int64_t num_experts, int64_t index) {
  return std::make_unique<LocalTokenExchange>(num_experts, index);
}

}  // namespace conclave::core
