// SPDX-License-Identifier: Apache-2.0
#include "core/device/operation.h"

#include <array>

namespace conclave::core {
namespace {

struct OperationRow {
  Operation operation;
  std::string_view name;
  OperationGroup group;
};

constexpr std::array<OperationRow, kNumOperations> kOperations = {{
    {Operation::kPackWeight, "PackWeight", OperationGroup::kOptimizer},
    {Operation::kGemm, "Gemm", OperationGroup::kMatrixProducts},
    {Operation::kGroupedGemm, "GroupedGemm", OperationGroup::kMatrixProducts},
    {Operation::kHeadGemm, "HeadGemm", OperationGroup::kMatrixProducts},
    {Operation::kWeightGrad, "WeightGrad", OperationGroup::kWeightGradients},
    {Operation::kBiasGrad, "BiasGrad", OperationGroup::kWeightGradients},
    {Operation::kRmsNorm, "RmsNorm", OperationGroup::kElementwise},
    {Operation::kRmsNormBackward, "RmsNormBackward", OperationGroup::kElementwise},
    {Operation::kSwiGlu, "SwiGlu", OperationGroup::kElementwise},
    {Operation::kSwiGluBackward, "SwiGluBackward", OperationGroup::kElementwise},
    {Operation::kRope, "Rope", OperationGroup::kElementwise},
    {Operation::kAttention, "Attention", OperationGroup::kAttention},
    {Operation::kAttentionBackward, "AttentionBackward", OperationGroup::kAttention},
    {Operation::kStoreInCache, "StoreInCache", OperationGroup::kAttention},
    {Operation::kRouter, "Router", OperationGroup::kRouting},
    {Operation::kBalanceLoss, "BalanceLoss", OperationGroup::kRouting},
    {Operation::kRouterBackward, "RouterBackward", OperationGroup::kRouting},
    {Operation::kCountExperts, "CountExperts", OperationGroup::kRouting},
    {Operation::kBuildPermutation, "BuildPermutation", OperationGroup::kRouting},
    {Operation::kMapExperts, "MapExperts", OperationGroup::kRouting},
    {Operation::kListSlots, "ListSlots", OperationGroup::kRouting},
    {Operation::kGatherRows, "GatherRows", OperationGroup::kRouting},
    {Operation::kScatterChoices, "ScatterChoices", OperationGroup::kRouting},
    {Operation::kGatherChoices, "GatherChoices", OperationGroup::kRouting},
    {Operation::kCombine, "Combine", OperationGroup::kRouting},
    {Operation::kEmbedding, "Embedding", OperationGroup::kLoss},
    {Operation::kEmbeddingGrad, "EmbeddingGrad", OperationGroup::kLoss},
    {Operation::kLinearCrossEntropy, "LinearCrossEntropy", OperationGroup::kLoss},
    {Operation::kLinearDivergence, "LinearDivergence", OperationGroup::kLoss},
    {Operation::kPolicyLoss, "PolicyLoss", OperationGroup::kLoss},
    {Operation::kSample, "Sample", OperationGroup::kLoss},
    {Operation::kZero, "Zero", OperationGroup::kElementwise},
    {Operation::kFillNormal, "FillNormal", OperationGroup::kElementwise},
    {Operation::kCast, "Cast", OperationGroup::kElementwise},
    {Operation::kAdd, "Add", OperationGroup::kElementwise},
    {Operation::kSumSquares, "SumSquares", OperationGroup::kOptimizer},
    {Operation::kAdamW, "AdamW", OperationGroup::kOptimizer},
    {Operation::kEma, "Ema", OperationGroup::kOptimizer},
    {Operation::kUpdateRouterBias, "UpdateRouterBias", OperationGroup::kOptimizer},
}};

constexpr bool InOrder() {
  for (size_t i = 0; i < kNumOperations; ++i) {
    if (kOperations[i].operation != static_cast<Operation>(i)) return false;
  }
  return true;
}
static_assert(InOrder(), "one row per operation, in the order of the enum");

constexpr std::array<std::string_view, kNumOperationGroups> kGroups = {
    "matrix products", "weight gradients, exact sums", "attention", "embedding, head, loss",
    "elementwise",     "routing and permutation",      "optimizer"};

}  // namespace

std::string_view Name(Operation operation) { return kOperations[static_cast<size_t>(operation)].name; }
std::string_view Name(OperationGroup group) { return kGroups[static_cast<size_t>(group)]; }
OperationGroup GroupOf(Operation operation) { return kOperations[static_cast<size_t>(operation)].group; }

}  // namespace conclave::core
