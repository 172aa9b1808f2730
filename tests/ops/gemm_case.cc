// SPDX-License-Identifier: Apache-2.0
// A linear layer: PackWeight, Gemm with its optional bias and addend, and its three gradients: Gemm over the backward
// panels, WeightGrad and BiasGrad. The last size of a shape says which options the call has (bits of Option).
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

enum Option : int64_t { kBias = 1, kAddend = 2, kF32Addend = 4, kF32Result = 8 };

struct LinearFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t tokens = static_cast<size_t>(shape[0]), n = static_cast<size_t>(shape[1]);
    const size_t k = static_cast<size_t>(shape[2]);
    const std::vector<T>&x = in["x"], &weights = in["weights"];
    std::vector<T>& y = out["y"];
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t i = 0; i < n; ++i) {
        T sum = 0;
        for (size_t j = 0; j < k; ++j) sum += x[t * k + j] * weights[i * k + j];
        if (in.Has("bias")) sum += in["bias"][i];
        if (in.Has("addend")) sum += in["addend"][t * n + i];
        y.push_back(sum);
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const int64_t tokens = shape[0], n = shape[1], k = shape[2], options = shape[3];
  const DType dtype = p.dtype, addend = options & kF32Addend ? DType::kF32 : dtype;
  const DType result = options & kF32Result ? DType::kF32 : dtype;
  const double third = static_cast<double>(tokens / 3), all = static_cast<double>(tokens);
  p.Input("x", dtype, {tokens, k}).Normal().PerRow().Strided().Extremes({0, 1e-20, 30, -100});
  Array& weights = p.Input("weights", DType::kF32, {n, k}).Normal();
  if (dtype == DType::kBf16) {  // the values that PackWeight makes of them
    for (int64_t i = 0; i < weights.size(); ++i) weights.Put(i, ToFloat(ToBf16(static_cast<float>(weights.Get(i)))));
  }
  if (options & kBias) p.Input("bias", DType::kF32, {n}).Normal(0, 5);
  if (options & (kAddend | kF32Addend)) p.Input("addend", addend, {tokens, n}).Normal(0, 5).PerRow().Strided();
  p.Input("d_y", dtype, {tokens, n}).Normal().PerRow().Strided();
  p.Input("offsets", DType::kI32, {4}).Set({0, third, third, all});
  p.Input("flag", DType::kI32, {1}).Zeros();
  p.Workspace("panels", [=](const Kernels& kernels) { return kernels.PackedBytes(dtype, 1, n, k); });
  p.Workspace("backward_panels", [=](const Kernels& kernels) { return kernels.PackedBytes(dtype, 1, k, n); });
  const char* chain = "an f32 chain of products";
  p.Output("y", result, {tokens, n}, Near(result, 1e-6, 5e-6, chain)).PerRow().Strided();
  p.Output("d_x", dtype, {tokens, k}, Near(dtype, 1e-6, 5e-6, chain)).PerRow().Strided();
  p.Output("d_weights", DType::kI64, {n, k}, Near(DType::kF32, 1e-6, 5e-6, chain)).Zeros();
  if (options & kBias) p.Output("d_bias", DType::kI64, {n}, Near(DType::kF32, 1e-6, 5e-6, "an f32 chain")).Zeros();
}

PackedWeight Panels(const Tensors& t, const char* name, int64_t out, int64_t in) {
  return {.panels = t[name], .dtype = t["x"].dtype, .matrices = 1, .out = out, .in = in};
}
PackedWeight Forward(const Tensors& t) { return Panels(t, "panels", t["weights"].size(0), t["weights"].size(1)); }
PackedWeight Backward(const Tensors& t) {
  return Panels(t, "backward_panels", t["weights"].size(1), t["weights"].size(0));
}

void RunGemm(Kernels& k, const Tensors& t) {
  k.Gemm({.x = t["x"], .w = Forward(t), .bias = t["bias"], .addend = t["addend"], .y = t["y"]});
}

void RunBackward(Kernels& k, const Tensors& t) {
  k.Gemm({.x = t["d_y"], .w = Backward(t), .bias = {}, .addend = {}, .y = t["d_x"]});
}

void RunWeightGrad(Kernels& k, const Tensors& t) {
  k.WeightGrad({.dy = t["d_y"],
                .x = t["x"],
                .segment_offsets = t["offsets"],
                .matrices = 1,
                .product_dtype = t["x"].dtype,
                .target = {.sum = t["d_weights"], .flag = t["flag"], .limit = 4096}});
}

void RunBiasGrad(Kernels& k, const Tensors& t) {
  if (t["bias"]) k.BiasGrad(t["d_y"], t["offsets"], {.sum = t["d_bias"], .flag = t["flag"], .limit = 4096});
}

std::vector<Shape> Shapes() {
  std::vector<Shape> shapes = {{0, 5, 3, 0}, {1, 1, 1, 0}, {1, 97, 33, kBias}, {130, 49, 5, 0}, {3, 20, 2100, kBias}};
  // Everything around the sizes of vectors (16), tiles (8) and panels (48), with all combinations of options.
  int64_t options = 0;
  for (int64_t tokens : {2, 7, 9, 17}) {
    for (int64_t n : {15, 16, 31, 48, 50}) {
      shapes.push_back({tokens, n, 2 + 3 * (options % 23), options % 16});
      options += 5;
    }
  }
  return shapes;
}

}  // namespace

OpCase MakeGemmCase() {
  OpCase c{.name = "gemm",
           .dims = "tokens x n x k x options",
           .shapes = Shapes(),
           .bench_shapes = {{256, 256, 256, 0},
                            {512, 1024, 256, 0},
                            {4096, 256, 256, 0},
                            {2048, 2048, 2048, 0},
                            {1, 2048, 2048, 0},
                            {16, 512, 256, 0}}};
  const auto flops = [](const Shape& s) { return 2.0 * static_cast<double>(s[0] * s[1] * s[2]); };
  c.setup = Setup;
  c.steps = {
      {.name = "PackWeight",
       .touches = {"weights", "panels", "backward_panels"},
       .run = [](Kernels& k, const Tensors& t) { k.PackWeight(t["weights"], Forward(t), Backward(t)); },
       .flops = [](const Shape&) { return 0.0; }},
      {.name = "Gemm", .touches = {"x", "panels", "bias", "addend", "y"}, .run = RunGemm, .flops = flops},
      {.name = "Gemm backward", .touches = {"d_y", "backward_panels", "d_x"}, .run = RunBackward, .flops = flops},
      {.name = "WeightGrad", .touches = {"d_y", "x", "d_weights", "d_weights"}, .run = RunWeightGrad, .flops = flops},
      {.name = "BiasGrad", .touches = {"d_y"}, .run = RunBiasGrad, .flops = [](const Shape& s) {
         return static_cast<double>(s[0] * s[1]);
       }}};
  c.SetFormula(LinearFormula{});
  return c;
}

}  // namespace conclave::core::test
