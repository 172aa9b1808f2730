// SPDX-License-Identifier: Apache-2.0
// Rope in both directions and layouts (0 interleaved, 1 halves). The table holds any numbers, not only cosines and
// sines: the backward is the transpose all the same.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

constexpr int64_t kMaxPosition = 11;

struct RopeFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t tokens = static_cast<size_t>(shape[0]), heads = static_cast<size_t>(shape[1]);
    const size_t r = static_cast<size_t>(shape[2]), half = r / 2;
    std::vector<T>& y = out["y"] = in["x"];
    for (size_t row = 0; row < tokens * heads; ++row) {
      const int64_t position = in.Integer("positions", static_cast<int64_t>(row / heads));
      for (size_t i = 0; i < half && position >= 0; ++i) {
        const size_t first = row * r + (shape[3] == 0 ? 2 * i : i), second = first + (shape[3] == 0 ? 1 : half);
        const T c = in["table"][static_cast<size_t>(position) * r + i];
        const T s = in["table"][static_cast<size_t>(position) * r + half + i];
        const T a = y[first], b = y[second];
        y[first] = a * c - b * s;
        y[second] = b * c + a * s;
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const Shape full = {shape[0], shape[1], shape[2]};
  const Array& x = p.Input("x", p.dtype, full).Normal().PerRow().Extremes({0, 1e-20, 1e20, -1e30});
  const Array& d_y = p.Input("d_y", p.dtype, full).Normal().PerRow();
  p.Input("positions", DType::kI32, {shape[0]}).Set({0, 1, 10, -1, 2, 7}).PerRow();
  p.Input("table", DType::kF32, {kMaxPosition, shape[2]}).Uniform(-1, 1);
  const Tolerance tolerance = Near(p.dtype, 3e-7, 3e-7, "two products that may cancel");
  p.Output("y", p.dtype, full, tolerance).StartsAs(x).PerRow().Strided();
  p.Output("d_x", p.dtype, full, tolerance).StartsAs(d_y).PerRow().Strided();
}

auto Rotate(RopeDirection direction, const char* name) {
  return [=](Kernels& k, const Tensors& t) {
    const RopeLayout layout = t.shape[3] == 0 ? RopeLayout::kInterleaved : RopeLayout::kHalves;
    k.Rope(t[name], t["positions"], t["table"], layout, direction);
  };
}

double Flops(const Shape& s) { return 3.0 * static_cast<double>(s[0] * s[1] * s[2]); }

}  // namespace

OpCase MakeRopeCase() {
  OpCase c{
      .name = "rope",
      .dims = "tokens x heads x r x layout",
      .shapes = {{0, 2, 8, 0}, {1, 1, 2, 0}, {9, 3, 22, 0}, {8, 1, 64, 0}, {1, 1, 2, 1}, {9, 3, 22, 1}, {8, 1, 64, 1}},
      .bench_shapes = {{4096, 16, 64, 0}, {4096, 16, 128, 1}}};
  c.setup = Setup;
  c.steps = {{.name = "Rope", .touches = {"x", "y"}, .run = Rotate(RopeDirection::kForward, "y"), .flops = Flops},
             {.name = "RopeBackward",
              .touches = {"d_y", "d_x"},
              .run = Rotate(RopeDirection::kBackward, "d_x"),
              .flops = Flops}};
  c.SetFormula(RopeFormula{});
  return c;
}

}  // namespace conclave::core::test
