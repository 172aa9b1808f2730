// SPDX-License-Identifier: Apache-2.0
// The profiling decorator against a backend that notes which of its methods was called.
#include "core/device/profiling_kernels.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace conclave::core {
namespace {

// Notes the name of each operation that reaches it; workspaces are the sum of what was asked for.
class NotingKernels final : public Kernels {
 public:
  explicit NotingKernels(std::vector<std::string>& calls) : calls_(calls) {}

  int64_t PackedBytes(DType, int64_t matrices, int64_t out, int64_t in) const override { return matrices + out + in; }
  int64_t AttentionBackwardWorkspace(const AttentionBackwardArgs& args) const override { return args.d_out.size(0); }
  int64_t EmbeddingGradWorkspace(int64_t tokens, int64_t hidden) const override { return tokens - hidden; }
  int64_t CrossEntropyWorkspace(int64_t tokens, int64_t rows, int64_t hidden, int64_t vocabulary,
                                DType) const override {
    return tokens + 10 * rows + 100 * hidden + 1000 * vocabulary;
  }
  int64_t DivergenceWorkspace(const DivergenceArgs& args) const override { return args.student.rows; }

  void PackWeight(Tensor, const PackedWeight&, const PackedWeight&) override { Note("PackWeight"); }
  void Gemm(const GemmArgs&) override { Note("Gemm"); }
  void GroupedGemm(const GroupedGemmArgs&) override { Note("GroupedGemm"); }
  void HeadGemm(const HeadGemmArgs&) override { Note("HeadGemm"); }
  void WeightGrad(const WeightGradArgs&) override { Note("WeightGrad"); }
  void BiasGrad(Tensor, Tensor, const GradientTarget&) override { Note("BiasGrad"); }
  void RmsNorm(Tensor, Tensor, float, Tensor, Tensor) override { Note("RmsNorm"); }
  void RmsNormBackward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const GradientTarget&) override {
    Note("RmsNormBackward");
  }
  void SwiGlu(Tensor, Tensor, Tensor, Tensor) override { Note("SwiGlu"); }
  void SwiGluBackward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor) override { Note("SwiGluBackward"); }
  void Rope(Tensor, Tensor, Tensor, RopeLayout, RopeDirection) override { Note("Rope"); }
  void Attention(const AttentionArgs&) override { Note("Attention"); }
  void AttentionBackward(const AttentionBackwardArgs&, Tensor) override { Note("AttentionBackward"); }
  void StoreInCache(Tensor, Tensor, Tensor) override { Note("StoreInCache"); }
  void Router(const RouterArgs&) override { Note("Router"); }
  void BalanceLoss(const BalanceLossArgs&) override { Note("BalanceLoss"); }
  void RouterBackward(const RouterBackwardArgs&) override { Note("RouterBackward"); }
  void CountExperts(Tensor, Tensor) override { Note("CountExperts"); }
  void BuildPermutation(Tensor, int64_t, Tensor, const Permutation&) override { Note("BuildPermutation"); }
  void MapExperts(Tensor, Tensor, Repeats, Tensor) override { Note("MapExperts"); }
  void ListSlots(Tensor, Tensor) override { Note("ListSlots"); }
  void GatherRows(Tensor, const Permutation&, Tensor) override { Note("GatherRows"); }
  void ScatterChoices(Tensor, const Permutation&, Tensor) override { Note("ScatterChoices"); }
  void GatherChoices(Tensor, const Permutation&, Tensor) override { Note("GatherChoices"); }
  void Combine(const CombineArgs&) override { Note("Combine"); }
  void Embedding(Tensor, Tensor, Tensor) override { Note("Embedding"); }
  void EmbeddingGrad(Tensor, Tensor, Tensor, const GradientTarget&, Tensor) override { Note("EmbeddingGrad"); }
  void LinearCrossEntropy(const CrossEntropyArgs&) override { Note("LinearCrossEntropy"); }
  void LinearDivergence(const DivergenceArgs&) override { Note("LinearDivergence"); }
  void PolicyLoss(const PolicyLossArgs&) override { Note("PolicyLoss"); }
  void Sample(const SampleArgs&) override { Note("Sample"); }
  void Zero(Tensor) override { Note("Zero"); }
  void FillNormal(Tensor, uint64_t, float) override { Note("FillNormal"); }
  void Cast(Tensor, Tensor) override { Note("Cast"); }
  void Add(Tensor, Tensor, Tensor) override { Note("Add"); }
  void SumSquares(Tensor, Tensor) override { Note("SumSquares"); }
  void AdamW(const AdamWArgs&) override { Note("AdamW"); }
  void Ema(Tensor, float, Tensor) override { Note("Ema"); }
  void UpdateRouterBias(Tensor, float, Tensor) override { Note("UpdateRouterBias"); }

 private:
  void Note(const char* name) { calls_.push_back(name); }
  std::vector<std::string>& calls_;
};

using Call = std::function<void(Kernels&)>;

// One call of every operation, in the order of the enum.
std::vector<Call> EveryOperation() {
  return {
      [](Kernels& k) { k.PackWeight({}, {}, {}); },
      [](Kernels& k) { k.Gemm({}); },
      [](Kernels& k) { k.GroupedGemm({}); },
      [](Kernels& k) { k.HeadGemm({}); },
      [](Kernels& k) { k.WeightGrad({}); },
      [](Kernels& k) { k.BiasGrad({}, {}, {}); },
      [](Kernels& k) { k.RmsNorm({}, {}, 0, {}, {}); },
      [](Kernels& k) { k.RmsNormBackward({}, {}, {}, {}, {}, {}, {}, {}); },
      [](Kernels& k) { k.SwiGlu({}, {}, {}, {}); },
      [](Kernels& k) { k.SwiGluBackward({}, {}, {}, {}, {}, {}); },
      [](Kernels& k) { k.Rope({}, {}, {}, RopeLayout::kHalves, RopeDirection::kForward); },
      [](Kernels& k) { k.Attention({}); },
      [](Kernels& k) { k.AttentionBackward({}, {}); },
      [](Kernels& k) { k.StoreInCache({}, {}, {}); },
      [](Kernels& k) { k.Router({}); },
      [](Kernels& k) { k.BalanceLoss({}); },
      [](Kernels& k) { k.RouterBackward({}); },
      [](Kernels& k) { k.CountExperts({}, {}); },
      [](Kernels& k) { k.BuildPermutation({}, 0, {}, {}); },
      [](Kernels& k) { k.MapExperts({}, {}, Repeats::kKeep, {}); },
      [](Kernels& k) { k.ListSlots({}, {}); },
      [](Kernels& k) { k.GatherRows({}, {}, {}); },
      [](Kernels& k) { k.ScatterChoices({}, {}, {}); },
      [](Kernels& k) { k.GatherChoices({}, {}, {}); },
      [](Kernels& k) { k.Combine({}); },
      [](Kernels& k) { k.Embedding({}, {}, {}); },
      [](Kernels& k) { k.EmbeddingGrad({}, {}, {}, {}, {}); },
      [](Kernels& k) { k.LinearCrossEntropy({}); },
      [](Kernels& k) { k.LinearDivergence({}); },
      [](Kernels& k) { k.PolicyLoss({}); },
      [](Kernels& k) { k.Sample({}); },
      [](Kernels& k) { k.Zero({}); },
      [](Kernels& k) { k.FillNormal({}, 0, 0); },
      [](Kernels& k) { k.Cast({}, {}); },
      [](Kernels& k) { k.Add({}, {}, {}); },
      [](Kernels& k) { k.SumSquares({}, {}); },
      [](Kernels& k) { k.AdamW({}); },
      [](Kernels& k) { k.Ema({}, 0, {}); },
      [](Kernels& k) { k.UpdateRouterBias({}, 0, {}); },
  };
}

class Profiling : public testing::Test {
 protected:
  std::vector<std::string> calls_;
  OperationProfile profile_{};
  ProfilingKernels kernels_{std::make_unique<NotingKernels>(calls_), profile_};
};

TEST_F(Profiling, EveryOperationReachesItsOwnMethodAndRecord) {
  const std::vector<Call> operations = EveryOperation();
  ASSERT_EQ(operations.size(), kNumOperations);
  for (size_t i = 0; i < kNumOperations; ++i) {
    const std::string name(Name(static_cast<Operation>(i)));
    calls_.clear();
    profile_.fill({});
    operations[i](kernels_);
    EXPECT_EQ(calls_, std::vector<std::string>{name});
    for (size_t j = 0; j < kNumOperations; ++j) EXPECT_EQ(profile_[j].calls, i == j ? 1 : 0) << name << " " << j;
  }
}

TEST_F(Profiling, WorkspacesAreThoseOfTheBackend) {
  AttentionBackwardArgs args;
  args.d_out = Tensor(nullptr, DType::kF32, {7, 1, 1, 1});
  EXPECT_EQ(kernels_.PackedBytes(DType::kF32, 1, 20, 300), 321);
  EXPECT_EQ(kernels_.AttentionBackwardWorkspace(args), 7);
  EXPECT_EQ(kernels_.EmbeddingGradWorkspace(9, 2), 7);
  EXPECT_EQ(kernels_.CrossEntropyWorkspace(1, 2, 3, 4, DType::kF32), 4321);
  DivergenceArgs divergence;
  divergence.student.rows = 5;
  EXPECT_EQ(kernels_.DivergenceWorkspace(divergence), 5);
}

TEST_F(Profiling, CallsAddUpWithTheirBytesAndFlops) {
  std::vector<float> memory(12);
  const Tensor x(memory.data(), DType::kF32, {3, 4}), y(memory.data(), DType::kBf16, {3, 4});
  kernels_.Cast(x, y);
  kernels_.Cast(x, y);
  const OperationRecord& cast = profile_[static_cast<size_t>(Operation::kCast)];
  EXPECT_EQ(cast.calls, 2);
  EXPECT_EQ(cast.bytes, 2 * 12 * (4 + 2));
  EXPECT_EQ(cast.flops, 0);
  EXPECT_GT(cast.seconds, 0);

  kernels_.Add(x, {}, x);  // a tensor that is not given costs nothing
  EXPECT_EQ(profile_[static_cast<size_t>(Operation::kAdd)].bytes, 2 * 12 * 4);

  PackedWeight w;
  w.out = 5;
  w.in = 4;
  kernels_.Gemm({.x = x, .w = w});
  const OperationRecord& gemm = profile_[static_cast<size_t>(Operation::kGemm)];
  EXPECT_EQ(gemm.flops, 2 * 3 * 4 * 5);
  EXPECT_EQ(gemm.bytes, 0);
}

}  // namespace
}  // namespace conclave::core
