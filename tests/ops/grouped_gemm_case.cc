// SPDX-License-Identifier: Apache-2.0
// The experts' linear layers: PackWeight, GroupedGemm forward and backward, WeightGrad with one matrix per expert.
// Experts get uneven numbers of rows, some none, and there are rows beyond the last expert that nothing may touch. A
// row's expert depends on its place, so the batch law is a test of its own (matrix_test.cc); dim 0 of the shapes is
// always 1.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

constexpr int64_t kSpareRows = 3;

struct GroupedFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const size_t n = static_cast<size_t>(shape[3]), k = static_cast<size_t>(shape[4]);
    const std::vector<T>&x = in["x"], &weights = in["weights"];
    std::vector<T>& y = out["y"];
    y.assign(static_cast<size_t>(shape[1] + kSpareRows) * n, T(std::nan("")));
    for (int64_t e = 0; e < shape[2]; ++e) {
      for (int64_t row = in.Integer("expert_offsets", e); row < in.Integer("expert_offsets", e + 1); ++row) {
        const size_t r = static_cast<size_t>(row), first = static_cast<size_t>(e) * n * k;
        for (size_t i = 0; i < n; ++i) {
          T sum = 0;
          for (size_t j = 0; j < k; ++j) sum += x[r * k + j] * weights[first + i * k + j];
          y[r * n + i] = sum;
        }
      }
    }
  }
};

// Offsets of `rows` rows in `parts` parts; every third part is empty, and with `one_only` all but one.
std::vector<double> UnevenOffsets(int64_t rows, int64_t parts, bool one_only) {
  std::vector<double> offsets;
  for (int64_t i = 0; i <= parts; ++i) {
    const int64_t begin = (i + 1) / 3 * 3 * rows / parts;
    offsets.push_back(static_cast<double>(i == parts     ? rows
                                          : one_only     ? (i > parts / 2 ? rows : 0)
                                          : begin < rows ? begin
                                                         : rows));
  }
  return offsets;
}

// With two rows of the batch: each expert's rows are cut in two segments, now and then with nothing in the first.
std::vector<double> Segments(const std::vector<double>& experts) {
  std::vector<double> segments;
  for (size_t e = 0; e + 1 < experts.size(); ++e) {
    segments.push_back(experts[e]);
    segments.push_back(experts[e] + static_cast<double>(static_cast<int64_t>((experts[e + 1] - experts[e]) / 3)));
  }
  segments.push_back(experts.back());
  return segments;
}

void Setup(const Shape& shape, Problem& p) {
  const int64_t rows = shape[1], experts = shape[2], n = shape[3], k = shape[4];
  const DType dtype = p.dtype;
  const std::vector<double> offsets = UnevenOffsets(rows, experts, shape[5] != 0);
  p.Input("x", dtype, {rows + kSpareRows, k}).Normal().Strided().Extremes({0, 1e-20, 30, -100});
  Array& weights = p.Input("weights", DType::kF32, {experts, n, k}).Normal();
  if (dtype == DType::kBf16) {  // the values that PackWeight makes of them
    for (int64_t i = 0; i < weights.size(); ++i) weights.Put(i, ToFloat(ToBf16(static_cast<float>(weights.Get(i)))));
  }
  p.Input("d_y", dtype, {rows + kSpareRows, n}).Normal().Strided();
  for (int64_t i = rows * n; i < (rows + kSpareRows) * n; ++i) p.Find("d_y")->Put(i, 0);
  p.Input("expert_offsets", DType::kI32, {experts + 1}).Set(offsets);
  p.Input("segment_offsets", DType::kI32, {2 * experts + 1}).Set(Segments(offsets));
  p.Input("flag", DType::kI32, {1}).Zeros();
  p.Workspace("panels", [=](const Kernels& kernels) { return kernels.PackedBytes(dtype, experts, n, k); });
  p.Workspace("backward_panels", [=](const Kernels& kernels) { return kernels.PackedBytes(dtype, experts, k, n); });
  const char* chain = "an f32 chain of products";
  p.Output("y", dtype, {rows + kSpareRows, n}, Near(dtype, 1e-6, 5e-6, chain)).Strided();
  p.Output("d_x", dtype, {rows + kSpareRows, k}, Near(dtype, 1e-6, 5e-6, chain)).Zeros().Strided();
  p.Output("d_weights", DType::kI64, {experts, n, k}, Near(DType::kF32, 1e-6, 5e-6, chain)).Zeros();
}

PackedWeight Panels(const Tensors& t, const char* name, int64_t out, int64_t in) {
  return {.panels = t[name], .dtype = t["x"].dtype, .matrices = t["weights"].size(0), .out = out, .in = in};
}
PackedWeight Forward(const Tensors& t) { return Panels(t, "panels", t["weights"].size(1), t["weights"].size(2)); }
PackedWeight Backward(const Tensors& t) {
  return Panels(t, "backward_panels", t["weights"].size(2), t["weights"].size(1));
}

void RunGemm(Kernels& k, const Tensors& t) {
  k.GroupedGemm({.x = t["x"], .w = Forward(t), .expert_offsets = t["expert_offsets"], .y = t["y"]});
}

void RunBackward(Kernels& k, const Tensors& t) {
  k.GroupedGemm({.x = t["d_y"], .w = Backward(t), .expert_offsets = t["expert_offsets"], .y = t["d_x"]});
}

void RunWeightGrad(Kernels& k, const Tensors& t) {
  k.WeightGrad({.dy = t["d_y"],
                .x = t["x"],
                .segment_offsets = t["segment_offsets"],
                .matrices = t["weights"].size(0),
                .product_dtype = t["x"].dtype,
                .target = {.sum = t["d_weights"], .flag = t["flag"], .limit = 4096}});
}

double Flops(const Shape& s) { return 2.0 * static_cast<double>(s[1] * s[3] * s[4]); }

}  // namespace

OpCase MakeGroupedGemmCase() {
  OpCase c{.name = "grouped_gemm",
           .dims = "1 x rows x experts x n x k x one_only",
           .shapes = {{1, 0, 4, 5, 3, 0},
                      {1, 1, 1, 1, 1, 0},
                      {1, 29, 5, 50, 17, 0},
                      {1, 67, 7, 16, 49, 0},
                      {1, 40, 6, 23, 24, 1},
                      {1, 300, 3, 9, 10, 0},
                      {1, 11, 1, 100, 7, 0}},
           .bench_shapes = {{1, 256, 32, 256, 256, 0},
                            {1, 1024, 32, 256, 256, 0},
                            {1, 4096, 32, 256, 256, 0},
                            {1, 4096, 32, 256, 256, 1}}};
  c.setup = Setup;
  c.steps = {
      {.name = "PackWeight",
       .touches = {"weights", "panels", "backward_panels"},
       .run = [](Kernels& k, const Tensors& t) { k.PackWeight(t["weights"], Forward(t), Backward(t)); },
       .flops = [](const Shape&) { return 0.0; }},
      {.name = "GroupedGemm", .touches = {"x", "panels", "y"}, .run = RunGemm, .flops = Flops},
      {.name = "GroupedGemm backward",
       .touches = {"d_y", "backward_panels", "d_x"},
       .run = RunBackward,
       .flops = Flops},
      {.name = "WeightGrad", .touches = {"d_y", "x", "d_weights", "d_weights"}, .run = RunWeightGrad, .flops = Flops}};
  c.SetFormula(GroupedFormula{});
  return c;
}

}  // namespace conclave::core::test
