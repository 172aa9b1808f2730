// SPDX-License-Identifier: Apache-2.0
// WeightGrad with f32 inputs, whatever the type of the products, over segments of equal length. Benchmark shapes differ
// in the number of segments only: one segment is the same work in plain f32 sums, so the difference is the price of
// exactness.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

// y = x W^T: its gradient with respect to W is what is tested.
struct LinearFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t tokens = static_cast<size_t>(shape[1] * shape[2]), n = static_cast<size_t>(shape[3]);
    const size_t k = static_cast<size_t>(shape[4]);
    const std::vector<T>&x = in["x"], &weights = in["weights"];
    std::vector<T>& y = out["y"];
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t i = 0; i < n; ++i) {
        T sum = 0;
        for (size_t j = 0; j < k; ++j) sum += x[t * k + j] * weights[i * k + j];
        y.push_back(sum);
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const int64_t segments = shape[1], length = shape[2], n = shape[3], k = shape[4];
  p.Input("x", DType::kF32, {segments * length, k}).Normal().Strided();
  p.Input("d_y", DType::kF32, {segments * length, n}).Normal().Strided();
  for (const char* name : {"x", "d_y"}) {  // values that the type of the products can hold
    Array& array = *p.Find(name);
    for (int64_t i = 0; p.dtype == DType::kBf16 && i < array.size(); ++i) {
      array.Put(i, ToFloat(ToBf16(static_cast<float>(array.Get(i)))));
    }
  }
  p.Input("weights", DType::kF32, {n, k}).Zeros();
  std::vector<double> offsets;
  for (int64_t i = 0; i <= segments; ++i) offsets.push_back(static_cast<double>(i * length));
  p.Input("offsets", DType::kI32, {segments + 1}).Set(offsets);
  p.Input("flag", DType::kI32, {1}).Zeros();
  p.Output("d_weights", DType::kI64, {n, k}, Near(DType::kF32, 1e-6, 5e-6, "an f32 chain per segment")).Zeros();
  p.Input("product", p.dtype, {1}).Zeros();  // carries the type of the products
}

void Run(Kernels& k, const Tensors& t) {
  k.WeightGrad({.dy = t["d_y"],
                .x = t["x"],
                .segment_offsets = t["offsets"],
                .matrices = 1,
                .product_dtype = t["product"].dtype,
                .target = {.sum = t["d_weights"], .flag = t["flag"], .limit = 4096}});
}

}  // namespace

OpCase MakeWeightGradCase() {
  OpCase c{.name = "weight_grad",
           .dims = "1 x segments x length x n x k",
           .shapes = {{1, 0, 0, 3, 5}, {1, 1, 1, 1, 1}, {1, 3, 5, 48, 49}, {1, 2, 301, 17, 33}, {1, 40, 7, 9, 70}},
           .bench_shapes = {{1, 1, 2048, 512, 512},
                            {1, 16, 128, 512, 512},
                            {1, 32, 64, 512, 512},
                            {1, 64, 32, 512, 512},
                            {1, 8, 256, 1024, 256}}};
  c.setup = Setup;
  c.steps = {{.name = "WeightGrad",
              .touches = {"d_y", "x", "d_weights", "d_weights"},
              .run = Run,
              .flops = [](const Shape& s) { return 2.0 * static_cast<double>(s[1] * s[2] * s[3] * s[4]); }}};
  c.SetFormula(LinearFormula{});
  return c;
}

}  // namespace conclave::core::test
