// SPDX-License-Identifier: Apache-2.0
// The CPU backend. The class is compiled once per instruction set, each in its own namespace; one operation, one file.
#pragma once

#include <memory>

#include "core/device/cpu/simd.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

class CpuKernels final : public Kernels {
 public:
  explicit CpuKernels(ThreadPool& pool) : pool_(pool) {}

  int64_t PackedBytes(DType dtype, int64_t matrices, int64_t out, int64_t in) const override;
  void PackWeight(Tensor weights, const PackedWeight& forward, const PackedWeight& backward) override;
  void Gemm(const GemmArgs& args) override;
  void GroupedGemm(const GroupedGemmArgs& args) override;
  void HeadGemm(const HeadGemmArgs& args) override;
  void WeightGrad(const WeightGradArgs& args) override;
  void BiasGrad(Tensor dy, Tensor row_offsets, const GradientTarget& target) override;
  void RmsNorm(Tensor x, Tensor gain, float eps, Tensor y, Tensor rstd) override;
  void RmsNormBackward(Tensor x, Tensor gain, Tensor rstd, Tensor dy, Tensor d_residual, Tensor row_offsets, Tensor dx,
                       const GradientTarget& target) override;
  void SwiGlu(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor h) override;
  void SwiGluBackward(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor dh, Tensor d_gate_up,
                      Tensor d_row_weight) override;
  void Rope(Tensor x, Tensor positions, Tensor table, RopeLayout layout, RopeDirection direction) override;
  void Attention(const AttentionArgs& args) override;
  void AttentionBackward(const AttentionBackwardArgs& args, Tensor workspace) override;
  int64_t AttentionBackwardWorkspace(const AttentionBackwardArgs& args) const override;
  void StoreInCache(Tensor x, Tensor key_index, Tensor cache) override;
  void Router(const RouterArgs& args) override;
  void BalanceLoss(const BalanceLossArgs& args) override;
  void RouterBackward(const RouterBackwardArgs& args) override;
  void CountExperts(Tensor experts, Tensor load) override;
  void BuildPermutation(Tensor experts, int64_t num_experts, Tensor row_offsets, const Permutation& out) override;
  void MapExperts(Tensor experts, Tensor map, Repeats repeats, Tensor y) override;
  void ListSlots(Tensor slot, Tensor list) override;
  void GatherRows(Tensor x, const Permutation& permutation, Tensor y) override;
  void ScatterChoices(Tensor per_choice, const Permutation& permutation, Tensor routed) override;
  void GatherChoices(Tensor routed, const Permutation& permutation, Tensor per_choice) override;
  void Combine(const CombineArgs& args) override;
  void Embedding(Tensor table, Tensor ids, Tensor y) override;
  void EmbeddingGrad(Tensor ids, Tensor dy, Tensor row_offsets, const GradientTarget& target,
                     Tensor workspace) override;
  int64_t EmbeddingGradWorkspace(int64_t tokens, int64_t hidden) const override;
  void LinearCrossEntropy(const CrossEntropyArgs& args) override;
  int64_t CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                DType dtype) const override;
  void LinearDivergence(const DivergenceArgs& args) override;
  int64_t DivergenceWorkspace(const DivergenceArgs& args) const override;
  void PolicyLoss(const PolicyLossArgs& args) override;
  void Sample(const SampleArgs& args) override;
  void Zero(Tensor x) override;
  void FillNormal(Tensor x, uint64_t key, float std) override;
  void Cast(Tensor x, Tensor y) override;
  void Add(Tensor a, Tensor b, Tensor y) override;
  void SumSquares(Tensor gradient, Tensor limbs) override;
  void AdamW(const AdamWArgs& args) override;
  void Ema(Tensor master, float decay, Tensor ema) override;
  void UpdateRouterBias(Tensor load, float speed, Tensor bias) override;

 private:
  ThreadPool& pool_;
};

// The factory that CreateDevice calls; cpu_device.cc declares one per target.
std::unique_ptr<Kernels> CreateKernels(ThreadPool& pool);

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
