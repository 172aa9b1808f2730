// SPDX-License-Identifier: Apache-2.0
// Kernels that compute nothing and count: run a step on them with measuring arenas, and memory and FLOPs are known
// before the first real step, by the very code that will run (core/model/memory_plan.h). Sizes of workspaces come from
// the backend.
#pragma once

#include <cstdint>

#include "core/device/kernels.h"
#include "core/device/operation_flops.h"

namespace conclave::core {

class CountingKernels final : public Kernels {
 public:
  explicit CountingKernels(const Kernels& backend) : backend_(backend) {}

  double flops() const { return flops_; }
  int64_t launches() const { return launches_; }

  int64_t PackedBytes(DType dtype, int64_t matrices, int64_t out, int64_t in) const override {
    return backend_.PackedBytes(dtype, matrices, out, in);
  }
  int64_t AttentionBackwardWorkspace(const AttentionBackwardArgs& args) const override {
    return backend_.AttentionBackwardWorkspace(args);
  }
  int64_t EmbeddingGradWorkspace(int64_t tokens, int64_t hidden) const override {
    return backend_.EmbeddingGradWorkspace(tokens, hidden);
  }
  int64_t CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                DType dtype) const override {
    return backend_.CrossEntropyWorkspace(tokens, rows, hidden, vocabulary, dtype);
  }
  int64_t DivergenceWorkspace(const DivergenceArgs& args) const override { return backend_.DivergenceWorkspace(args); }

  void Gemm(const GemmArgs& args) override { Count(OperationFlops(args)); }
  void GroupedGemm(const GroupedGemmArgs& args) override { Count(OperationFlops(args)); }
  void HeadGemm(const HeadGemmArgs& args) override { Count(OperationFlops(args)); }
  void WeightGrad(const WeightGradArgs& args) override { Count(OperationFlops(args)); }
  void Attention(const AttentionArgs& args) override { Count(OperationFlops(args)); }
  void AttentionBackward(const AttentionBackwardArgs& args, Tensor) override { Count(OperationFlops(args)); }
  void LinearCrossEntropy(const CrossEntropyArgs& args) override { Count(OperationFlops(args)); }
  void LinearDivergence(const DivergenceArgs& args) override { Count(OperationFlops(args)); }

  void PackWeight(Tensor, const PackedWeight&, const PackedWeight&) override { Count(0); }
  void BiasGrad(Tensor, Tensor, const GradientTarget&) override { Count(0); }
  void RmsNorm(Tensor, Tensor, float, Tensor, Tensor) override { Count(0); }
  void RmsNormBackward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const GradientTarget&) override {
    Count(0);
  }
  void SwiGlu(Tensor, Tensor, Tensor, Tensor) override { Count(0); }
  void SwiGluBackward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override { Count(0); }
  void Rope(Tensor, Tensor, Tensor, RopeLayout, RopeDirection) override { Count(0); }
  void StoreInCache(Tensor, Tensor, Tensor) override { Count(0); }
  void Router(const RouterArgs&) override { Count(0); }
  void BalanceLoss(const BalanceLossArgs&) override { Count(0); }
  void RouterBackward(const RouterBackwardArgs&) override { Count(0); }
  void CountExperts(Tensor, Tensor) override { Count(0); }
  void BuildPermutation(Tensor, int64_t, Tensor, const Permutation&) override { Count(0); }
  void MapExperts(Tensor, Tensor, Repeats, Tensor) override { Count(0); }
  void ListSlots(Tensor, Tensor) override { Count(0); }
  void GatherRows(Tensor, const Permutation&, Tensor) override { Count(0); }
  void ScatterChoices(Tensor, const Permutation&, Tensor) override { Count(0); }
  void GatherChoices(Tensor, const Permutation&, Tensor) override { Count(0); }
  void Combine(const CombineArgs&) override { Count(0); }
  void Embedding(Tensor, Tensor, Tensor) override { Count(0); }
  void EmbeddingGrad(Tensor, Tensor, Tensor, const GradientTarget&, Tensor) override { Count(0); }
  void PolicyLoss(const PolicyLossArgs&) override { Count(0); }
  void Sample(const SampleArgs&) override { Count(0); }
  void Zero(Tensor) override { Count(0); }
  void FillNormal(Tensor, uint64_t, float) override { Count(0); }
  void Cast(Tensor, Tensor) override { Count(0); }
  void Add(Tensor, Tensor, Tensor) override { Count(0); }
  void SumSquares(Tensor, Tensor) override { Count(0); }
  void AdamW(const AdamWArgs&) override { Count(0); }
  void Ema(Tensor, float, Tensor) override { Count(0); }
  void UpdateRouterBias(Tensor, float, Tensor) override { Count(0); }

 private:
  void Count(double flops) {
    flops_ += flops;
    ++launches_;
  }

  const Kernels& backend_;
  double flops_ = 0;
  int64_t launches_ = 0;
};

}  // namespace conclave::core
