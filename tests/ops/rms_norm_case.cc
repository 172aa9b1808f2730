// SPDX-License-Identifier: Apache-2.0
// RmsNorm and its backward, for hidden states [T, n] (H = 1) and per head [T, H, n]. The residual stream that bypasses
// the norm is a second output of the formula: its upstream gradient is d_residual.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

constexpr float kEps = 1e-6f;

struct RmsNormFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    using std::sqrt;
    const std::vector<T>&x = in["x"], &gain = in["gain"];
    const size_t n = static_cast<size_t>(shape[2]), rows = static_cast<size_t>(shape[0] * shape[1]);
    std::vector<T>&y = out["y"], &rstd = out["rstd"];
    for (size_t r = 0; r < rows; ++r) {
      T squares = 0;
      for (size_t i = 0; i < n; ++i) squares += x[r * n + i] * x[r * n + i];
      rstd.push_back(T(1) / sqrt(squares / T(static_cast<double>(n)) + T(kEps)));
      for (size_t i = 0; i < n; ++i) y.push_back(x[r * n + i] * rstd[r] * gain[i]);
    }
    out["residual"] = x;
  }
};

void Setup(const Shape& shape, Problem& p) {
  const int64_t tokens = shape[0], heads = shape[1], n = shape[2];
  const Shape full = heads == 1 ? Shape{tokens, n} : shape;
  const Shape rows = heads == 1 ? Shape{tokens} : Shape{tokens, heads};
  p.Input("x", p.dtype, full).Normal(0, 2).PerRow().Strided().Extremes({0, 1e-12, 1e-3, 3e4, -1e12});
  p.Input("gain", DType::kF32, {n}).Normal(1, 0.3);
  p.Input("d_y", p.dtype, full).Normal().PerRow().Strided();
  if (heads == 1) p.Input("d_residual", p.dtype, full).Normal().PerRow().Strided();
  p.Input("row_offsets", DType::kI32, {3}).Set({0, static_cast<double>(tokens / 3), static_cast<double>(tokens)});
  p.Input("flag", DType::kI32, {1}).Zeros();
  p.Output("y", p.dtype, full, Near(p.dtype, 1e-6, 0, "16 lanes, then a root and two products")).PerRow().Strided();
  p.Output("rstd", DType::kF32, rows, Near(DType::kF32, 1e-6, 0, "16 lanes, then a root")).PerRow();
  p.Output("d_x", p.dtype, full, Near(p.dtype, 2e-6, 2e-6, "the two terms may cancel")).PerRow().Strided();
  p.Output("d_gain", DType::kI64, {n}, Near(DType::kF32, 1e-6, 1e-6, "an f32 chain over tokens")).Zeros();
}

void RunForward(Kernels& k, const Tensors& t) { k.RmsNorm(t["x"], t["gain"], kEps, t["y"], t["rstd"]); }

void RunBackward(Kernels& k, const Tensors& t) {
  const GradientTarget target{.sum = t["d_gain"], .flag = t["flag"], .limit = 4096};
  k.RmsNormBackward(t["x"], t["gain"], t["rstd"], t["d_y"], t["d_residual"], t["row_offsets"], t["d_x"], target);
}

}  // namespace

OpCase MakeRmsNormCase() {
  OpCase c{.name = "rms_norm",
           .dims = "tokens x heads x n",
           .shapes = {{0, 1, 8}, {1, 1, 1}, {5, 1, 16}, {7, 1, 67}, {33, 1, 256}, {4, 3, 24}, {9, 2, 128}},
           .bench_shapes = {{4096, 1, 256}, {4096, 1, 2048}, {4096, 16, 128}}};
  c.setup = Setup;
  c.steps = {{.name = "RmsNorm",
              .touches = {"x", "gain", "y", "rstd"},
              .run = RunForward,
              .flops = [](const Shape& s) { return 4.0 * static_cast<double>(Elements(s)); }},
             {.name = "RmsNormBackward",
              .touches = {"x", "rstd", "d_y", "d_residual", "d_x", "gain", "d_gain"},
              .run = RunBackward,
              .flops = [](const Shape& s) { return 11.0 * static_cast<double>(Elements(s)); }}};
  c.SetFormula(RmsNormFormula{});
  return c;
}

}  // namespace conclave::core::test
