// SPDX-License-Identifier: Apache-2.0
// A matrix per head, as attention over latents has them: PackWeight of a part of each head's rows, and HeadGemm on
// columns that are a part of a token's, into columns that are.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

struct HeadGemmFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t tokens = static_cast<size_t>(shape[0]), heads = static_cast<size_t>(shape[1]);
    const size_t n = static_cast<size_t>(shape[2]), k = static_cast<size_t>(shape[3]);
    const std::vector<T>&x = in["x"], &weights = in["weights"];
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t h = 0; h < heads; ++h) {
        for (size_t i = 0; i < n; ++i) {
          T sum = 0;
          for (size_t j = 0; j < k; ++j) sum += x[(t * heads + h) * k + j] * weights[(h * n + i) * k + j];
          out["y"].push_back(sum);
        }
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const int64_t tokens = shape[0], heads = shape[1], n = shape[2], k = shape[3];
  const DType dtype = p.dtype;
  p.Input("x", dtype, {tokens, heads, k}).Normal().PerRow().Strided().Extremes({0, 1e-20, 30, -100});
  Array& weights = p.Input("weights", DType::kF32, {heads, n, k}).Normal();
  if (dtype == DType::kBf16) {  // the values that PackWeight makes of them
    for (int64_t i = 0; i < weights.size(); ++i) weights.Put(i, ToFloat(ToBf16(static_cast<float>(weights.Get(i)))));
  }
  p.Workspace("panels", [=](const Kernels& kernels) { return kernels.PackedBytes(dtype, heads, n, k); });
  p.Output("y", dtype, {tokens, heads, n}, Near(dtype, 1e-6, 5e-6, "an f32 chain of products")).PerRow().Strided();
}

PackedWeight Panels(const Tensors& t) {
  const Tensor weights = t["weights"];
  return {.panels = t["panels"],
          .dtype = t["x"].dtype,
          .matrices = weights.size(0),
          .out = weights.size(1),
          .in = weights.size(2)};
}

void Run(Kernels& k, const Tensors& t) { k.HeadGemm({.x = t["x"], .w = Panels(t), .y = t["y"]}); }

}  // namespace

OpCase MakeHeadGemmCase() {
  OpCase c{.name = "head_gemm",
           .dims = "tokens x heads x n x k",
           .shapes = {{0, 2, 5, 3},
                      {1, 1, 1, 1},
                      {1, 3, 16, 48},
                      {7, 4, 64, 32},
                      {9, 5, 50, 17},
                      {67, 2, 33, 100},
                      {130, 3, 97, 5}},
           .bench_shapes = {{64, 4, 64, 32}, {64, 4, 32, 64}, {64, 16, 512, 128}, {64, 16, 128, 512}}};
  c.setup = Setup;
  c.steps = {{.name = "PackWeight",
              .touches = {"weights", "panels"},
              .run = [](Kernels& k, const Tensors& t) { k.PackWeight(t["weights"], Panels(t), {}); },
              .flops = [](const Shape&) { return 0.0; }},
             {.name = "HeadGemm", .touches = {"x", "panels", "y"}, .run = Run, .flops = [](const Shape& s) {
                return 2.0 * static_cast<double>(s[0] * s[1] * s[2] * s[3]);
              }}};
  c.SetFormula(HeadGemmFormula{});
  return c;
}

}  // namespace conclave::core::test
