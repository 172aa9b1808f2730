// SPDX-License-Identifier: Apache-2.0
// Names of the operations of kernels.h, and the groups that a profile sums them in.
#pragma once

#include <cstddef>
#include <string_view>

namespace conclave::core {

enum class Operation {  // those of Kernels that compute, in its order
  kPackWeight,
  kGemm,
  kGroupedGemm,
  kHeadGemm,
  kWeightGrad,
  kBiasGrad,
  kRmsNorm,
  kRmsNormBackward,
  kSwiGlu,
  kSwiGluBackward,
  kRope,
  kAttention,
  kAttentionBackward,
  kStoreInCache,
  kRouter,
  kBalanceLoss,
  kRouterBackward,
  kCountExperts,
  kBuildPermutation,
  kMapExperts,
  kListSlots,
  kGatherRows,
  kScatterChoices,
  kGatherChoices,
  kCombine,
  kEmbedding,
  kEmbeddingGrad,
  kLinearCrossEntropy,
  kLinearDivergence,
  kPolicyLoss,
  kSample,
  kZero,
  kFillNormal,
  kCast,
  kAdd,
  kSumSquares,
  kAdamW,
  kEma,
  kUpdateRouterBias,
};
inline constexpr size_t kNumOperations = static_cast<size_t>(Operation::kUpdateRouterBias) + 1;

enum class OperationGroup {
  kMatrixProducts,
  kWeightGradients,
  kAttention,
  kLoss,
  kElementwise,
  kRouting,
  kOptimizer,
};
inline constexpr size_t kNumOperationGroups = static_cast<size_t>(OperationGroup::kOptimizer) + 1;

std::string_view Name(Operation operation);   // "Gemm", as the method of Kernels
std::string_view Name(OperationGroup group);  // "matrix products"
OperationGroup GroupOf(Operation operation);

}  // namespace conclave::core
