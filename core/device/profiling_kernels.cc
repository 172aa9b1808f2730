// SPDX-License-Identifier: Apache-2.0
#include "core/device/profiling_kernels.h"

#include <chrono>
#include <initializer_list>

#include "core/device/operation_flops.h"

namespace conclave::core {
namespace {

struct Cost {
  double flops = 0, bytes = 0;
};

// Adds one call to its operation's record: from construction to destruction.
class CallTimer {
 public:
  CallTimer(OperationProfile& profile, Operation operation, Cost cost)
      : record_(profile[static_cast<size_t>(operation)]), cost_(cost), start_(std::chrono::steady_clock::now()) {}
  ~CallTimer() {
    record_.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    record_.flops += cost_.flops;
    record_.bytes += cost_.bytes;
    ++record_.calls;
  }
  CallTimer(const CallTimer&) = delete;
  CallTimer& operator=(const CallTimer&) = delete;

 private:
  OperationRecord& record_;
  const Cost cost_;
  const std::chrono::steady_clock::time_point start_;
};

// A tensor that is read and written stands twice.
Cost Touching(std::initializer_list<Tensor> tensors) {
  Cost cost;
  for (const Tensor& tensor : tensors) cost.bytes += tensor ? static_cast<double>(tensor.Bytes()) : 0;
  return cost;
}

template <class Args>
Cost FlopsOf(const Args& args) {
  return {.flops = OperationFlops(args)};
}

}  // namespace

void ProfilingKernels::PackWeight(Tensor weights, const PackedWeight& forward, const PackedWeight& backward) {
  const CallTimer timer(profile_, Operation::kPackWeight, Touching({weights, forward.panels, backward.panels}));
  backend_->PackWeight(weights, forward, backward);
}

void ProfilingKernels::Gemm(const GemmArgs& args) {
  const CallTimer timer(profile_, Operation::kGemm, FlopsOf(args));
  backend_->Gemm(args);
}

void ProfilingKernels::GroupedGemm(const GroupedGemmArgs& args) {
  const CallTimer timer(profile_, Operation::kGroupedGemm, FlopsOf(args));
  backend_->GroupedGemm(args);
}

void ProfilingKernels::HeadGemm(const HeadGemmArgs& args) {
  const CallTimer timer(profile_, Operation::kHeadGemm, FlopsOf(args));
  backend_->HeadGemm(args);
}

void ProfilingKernels::WeightGrad(const WeightGradArgs& args) {
  const CallTimer timer(profile_, Operation::kWeightGrad, FlopsOf(args));
  backend_->WeightGrad(args);
}

void ProfilingKernels::BiasGrad(Tensor dy, Tensor row_offsets, const GradientTarget& target) {
  const CallTimer timer(profile_, Operation::kBiasGrad, Touching({dy}));
  backend_->BiasGrad(dy, row_offsets, target);
}

void ProfilingKernels::RmsNorm(Tensor x, Tensor gain, float eps, Tensor y, Tensor rstd) {
  const CallTimer timer(profile_, Operation::kRmsNorm, Touching({x, y}));
  backend_->RmsNorm(x, gain, eps, y, rstd);
}

void ProfilingKernels::RmsNormBackward(Tensor x, Tensor gain, Tensor rstd, Tensor dy, Tensor d_residual,
                                       Tensor row_offsets, Tensor dx, const GradientTarget& target) {
  const CallTimer timer(profile_, Operation::kRmsNormBackward, Touching({x, dy, d_residual, dx}));
  backend_->RmsNormBackward(x, gain, rstd, dy, d_residual, row_offsets, dx, target);
}

void ProfilingKernels::SwiGlu(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor h) {
  const CallTimer timer(profile_, Operation::kSwiGlu, Touching({gate_up, h}));
  backend_->SwiGlu(gate_up, row_weight, num_rows, h);
}

void ProfilingKernels::SwiGluBackward(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor dh, Tensor d_gate_up,
                                      Tensor d_row_weight) {
  const CallTimer timer(profile_, Operation::kSwiGluBackward, Touching({gate_up, dh, d_gate_up}));
  backend_->SwiGluBackward(gate_up, row_weight, num_rows, dh, d_gate_up, d_row_weight);
}

void ProfilingKernels::Rope(Tensor x, Tensor positions, Tensor table, RopeLayout layout, RopeDirection direction) {
  const CallTimer timer(profile_, Operation::kRope, Touching({x, x}));
  backend_->Rope(x, positions, table, layout, direction);
}

void ProfilingKernels::Attention(const AttentionArgs& args) {
  const CallTimer timer(profile_, Operation::kAttention, FlopsOf(args));
  backend_->Attention(args);
}

void ProfilingKernels::AttentionBackward(const AttentionBackwardArgs& args, Tensor workspace) {
  const CallTimer timer(profile_, Operation::kAttentionBackward, FlopsOf(args));
  backend_->AttentionBackward(args, workspace);
}

void ProfilingKernels::StoreInCache(Tensor x, Tensor key_index, Tensor cache) {
  const CallTimer timer(profile_, Operation::kStoreInCache, Touching({x, x}));
  backend_->StoreInCache(x, key_index, cache);
}

void ProfilingKernels::Router(const RouterArgs& args) {
  const CallTimer timer(profile_, Operation::kRouter,
                        Touching({args.logits, args.replayed, args.scores, args.experts, args.weights}));
  backend_->Router(args);
}

void ProfilingKernels::BalanceLoss(const BalanceLossArgs& args) {
  const CallTimer timer(profile_, Operation::kBalanceLoss, Touching({args.scores}));
  backend_->BalanceLoss(args);
}

void ProfilingKernels::RouterBackward(const RouterBackwardArgs& args) {
  const CallTimer timer(profile_, Operation::kRouterBackward,
                        Touching({args.forward.scores, args.d_weights, args.d_logits}));
  backend_->RouterBackward(args);
}

void ProfilingKernels::CountExperts(Tensor experts, Tensor load) {
  const CallTimer timer(profile_, Operation::kCountExperts, Touching({experts}));
  backend_->CountExperts(experts, load);
}

void ProfilingKernels::BuildPermutation(Tensor experts, int64_t num_experts, Tensor row_offsets,
                                        const Permutation& out) {
  const CallTimer timer(profile_, Operation::kBuildPermutation, Touching({experts, out.slot, out.token}));
  backend_->BuildPermutation(experts, num_experts, row_offsets, out);
}

void ProfilingKernels::MapExperts(Tensor experts, Tensor map, Repeats repeats, Tensor y) {
  const CallTimer timer(profile_, Operation::kMapExperts, Touching({experts, y}));
  backend_->MapExperts(experts, map, repeats, y);
}

void ProfilingKernels::ListSlots(Tensor slot, Tensor list) {
  const CallTimer timer(profile_, Operation::kListSlots, Touching({slot, list}));
  backend_->ListSlots(slot, list);
}

void ProfilingKernels::GatherRows(Tensor x, const Permutation& permutation, Tensor y) {
  const CallTimer timer(profile_, Operation::kGatherRows, Touching({y, y}));
  backend_->GatherRows(x, permutation, y);
}

void ProfilingKernels::ScatterChoices(Tensor per_choice, const Permutation& permutation, Tensor routed) {
  const CallTimer timer(profile_, Operation::kScatterChoices, Touching({per_choice, routed}));
  backend_->ScatterChoices(per_choice, permutation, routed);
}

void ProfilingKernels::GatherChoices(Tensor routed, const Permutation& permutation, Tensor per_choice) {
  const CallTimer timer(profile_, Operation::kGatherChoices, Touching({routed, per_choice}));
  backend_->GatherChoices(routed, permutation, per_choice);
}

void ProfilingKernels::Combine(const CombineArgs& args) {
  const CallTimer timer(profile_, Operation::kCombine, Touching({args.rows, args.shared, args.addend, args.y}));
  backend_->Combine(args);
}

void ProfilingKernels::Embedding(Tensor table, Tensor ids, Tensor y) {
  const CallTimer timer(profile_, Operation::kEmbedding,
                        {.bytes = static_cast<double>(y.Elements() * SizeOf(table.dtype) + y.Bytes())});
  backend_->Embedding(table, ids, y);
}

void ProfilingKernels::EmbeddingGrad(Tensor ids, Tensor dy, Tensor row_offsets, const GradientTarget& target,
                                     Tensor workspace) {
  // Repeated tokens decide how much is written.
  const CallTimer timer(profile_, Operation::kEmbeddingGrad, {});
  backend_->EmbeddingGrad(ids, dy, row_offsets, target, workspace);
}

void ProfilingKernels::LinearCrossEntropy(const CrossEntropyArgs& args) {
  const CallTimer timer(profile_, Operation::kLinearCrossEntropy, FlopsOf(args));
  backend_->LinearCrossEntropy(args);
}

void ProfilingKernels::LinearDivergence(const DivergenceArgs& args) {
  const CallTimer timer(profile_, Operation::kLinearDivergence, FlopsOf(args));
  backend_->LinearDivergence(args);
}

void ProfilingKernels::PolicyLoss(const PolicyLossArgs& args) {
  const CallTimer timer(profile_, Operation::kPolicyLoss,
                        Touching({args.log_probs, args.old_log_probs, args.reference_log_probs, args.advantages,
                                  args.weights, args.sequences, args.token_weights}));
  backend_->PolicyLoss(args);
}

void ProfilingKernels::Sample(const SampleArgs& args) {
  const CallTimer timer(profile_, Operation::kSample, Touching({args.logits}));
  backend_->Sample(args);
}

void ProfilingKernels::FillNormal(Tensor x, uint64_t key, float std) {
  const CallTimer timer(profile_, Operation::kFillNormal, Touching({x}));
  backend_->FillNormal(x, key, std);
}

void ProfilingKernels::Zero(Tensor x) {
  const CallTimer timer(profile_, Operation::kZero, Touching({x}));
  backend_->Zero(x);
}

void ProfilingKernels::Cast(Tensor x, Tensor y) {
  const CallTimer timer(profile_, Operation::kCast, Touching({x, y}));
  backend_->Cast(x, y);
}

void ProfilingKernels::Add(Tensor a, Tensor b, Tensor y) {
  const CallTimer timer(profile_, Operation::kAdd, Touching({a, b, y}));
  backend_->Add(a, b, y);
}

void ProfilingKernels::SumSquares(Tensor gradient, Tensor limbs) {
  const CallTimer timer(profile_, Operation::kSumSquares, Touching({gradient}));
  backend_->SumSquares(gradient, limbs);
}

void ProfilingKernels::AdamW(const AdamWArgs& args) {
  const CallTimer timer(
      profile_, Operation::kAdamW,
      Touching({args.gradient, args.gradient, args.master, args.master, args.m, args.m, args.v, args.v}));
  backend_->AdamW(args);
}

void ProfilingKernels::Ema(Tensor master, float decay, Tensor ema) {
  const CallTimer timer(profile_, Operation::kEma, Touching({master, ema, ema}));
  backend_->Ema(master, decay, ema);
}

void ProfilingKernels::UpdateRouterBias(Tensor load, float speed, Tensor bias) {
  const CallTimer timer(profile_, Operation::kUpdateRouterBias, Touching({load, bias, bias}));
  backend_->UpdateRouterBias(load, speed, bias);
}

}  // namespace conclave::core
