// SPDX-License-Identifier: Apache-2.0
// SwiGlu and its backward; shapes with weighted = 1 have the weight of a routed row.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

struct SwiGluFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t rows = static_cast<size_t>(shape[0]), n = static_cast<size_t>(shape[1]);
    for (size_t r = 0; r < rows; ++r) {
      const T weight = in.Has("row_weight") ? in["row_weight"][r] : T(1);
      for (size_t i = 0; i < n; ++i) {
        const T g = in["gate_up"][r * 2 * n + i], u = in["gate_up"][r * 2 * n + n + i];
        out["h"].push_back(g * Sigmoid(g) * u * weight);
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const int64_t rows = shape[0], n = shape[1];
  p.Input("gate_up", p.dtype, {rows, 2 * n})
      .Normal(0, 2)
      .PerRow()
      .Strided()
      .Extremes({0, -20, -85, -200, 60, 200, 1e4});
  p.Input("d_h", p.dtype, {rows, n}).Normal().PerRow().Strided();
  p.Output("h", p.dtype, {rows, n}, Near(p.dtype, 1e-6, 1e-30, "an exponential, a quotient, products"))
      .PerRow()
      .Strided();
  p.Output("d_gate_up", p.dtype, {rows, 2 * n}, Near(p.dtype, 1e-6, 1e-6, "1 + g (1 - s) may cancel"))
      .PerRow()
      .Strided();
  if (shape[2] == 0) return;
  p.Input("row_weight", DType::kF32, {rows}).Uniform(0, 1).PerRow();
  p.Output("d_row_weight", DType::kF32, {rows}, Near(DType::kF32, 1e-6, 1e-6, "16 lanes that may cancel")).PerRow();
}

void RunForward(Kernels& k, const Tensors& t) { k.SwiGlu(t["gate_up"], t["row_weight"], {}, t["h"]); }

void RunBackward(Kernels& k, const Tensors& t) {
  k.SwiGluBackward(t["gate_up"], t["row_weight"], {}, t["d_h"], t["d_gate_up"], t["d_row_weight"]);
}

// Operations per element of h; an exponential counts as one.
auto FlopsPerElement(double count) {
  return [count](const Shape& s) { return count * static_cast<double>(s[0] * s[1]); };
}

}  // namespace

OpCase MakeSwiGluCase() {
  OpCase c{.name = "swiglu",
           .dims = "rows x n x weighted",
           .shapes = {{0, 8, 1}, {1, 1, 1}, {7, 33, 0}, {7, 33, 1}, {20, 128, 1}},
           .bench_shapes = {{4096, 512, 0}, {4096, 2048, 1}}};
  c.setup = Setup;
  c.steps = {
      {.name = "SwiGlu", .touches = {"gate_up", "row_weight", "h"}, .run = RunForward, .flops = FlopsPerElement(7)},
      {.name = "SwiGluBackward",
       .touches = {"gate_up", "row_weight", "d_h", "d_gate_up", "d_row_weight"},
       .run = RunBackward,
       .flops = FlopsPerElement(16)}};
  c.SetFormula(SwiGluFormula{});
  return c;
}

}  // namespace conclave::core::test
