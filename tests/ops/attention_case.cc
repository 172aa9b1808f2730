// SPDX-License-Identifier: Apache-2.0
// Attention and its backward. A row is one document, or holds several and some padding; the formula is softmax
// attention written down, one query at a time, over the keys of the query's document up to its own.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

// rows x length x heads x key_heads x n x r x dv x packed (0: a row is one document)
struct Sizes {
  int64_t rows, length, heads, key_heads, n, r, dv, packed;
  explicit Sizes(const Shape& s)
      : rows(s[0]), length(s[1]), heads(s[2]), key_heads(s[3]), n(s[4]), r(s[5]), dv(s[6]), packed(s[7]) {}
};

constexpr float kScale = 0.2f;

struct AttentionFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const Sizes z(shape);
    std::vector<T>&y = out["out"], &lse = out["lse"];
    for (int64_t t = 0; t < z.rows * z.length; ++t) {
      const int64_t position = in.Integer("positions", t);
      for (int64_t h = 0; h < z.heads; ++h) {
        y.insert(y.end(), static_cast<size_t>(z.dv), T(0));
        lse.push_back(T(0));
        if (position >= 0) Query(z, in, t, position, h, &y[y.size() - static_cast<size_t>(z.dv)], lse.back());
      }
    }
  }

  template <class T>
  static void Query(const Sizes& z, const Values<T>& in, int64_t t, int64_t position, int64_t h, T* y, T& lse) {
    using std::exp, std::log;
    const int64_t depth = z.n + z.r, g = h / (z.heads / z.key_heads);
    const T* q = &in["q"][static_cast<size_t>((t * z.heads + h) * depth)];
    std::vector<T> scores;
    double largest = -HUGE_VAL;
    for (int64_t key = t - position; key <= t; ++key) {
      const T* k = &in["k"][static_cast<size_t>((key * z.key_heads + g) * z.n)];
      const T* shared = z.r > 0 ? &in["k_shared"][static_cast<size_t>(key * z.r)] : nullptr;
      T score = 0;
      for (int64_t i = 0; i < z.n; ++i) score += q[i] * k[i];
      for (int64_t i = 0; i < z.r; ++i) score += q[z.n + i] * shared[i];
      scores.push_back(score * T(kScale));
      largest = std::max(largest, Real(scores.back()));
    }
    T sum = 0;
    for (T& score : scores) {
      score = exp(score - T(largest));
      sum += score;
    }
    for (int64_t i = 0; i <= position; ++i) {
      const T* v = &in["v"][static_cast<size_t>(((t - position + i) * z.key_heads + g) * z.dv)];
      const T weight = scores[static_cast<size_t>(i)] / sum;
      for (int64_t j = 0; j < z.dv; ++j) y[j] += weight * v[j];
    }
    lse = T(largest) + log(sum);
  }
};

// Packed: documents of unequal lengths, one of them a single token, and padding at the end of every row but the first.
std::vector<double> Positions(const Sizes& z) {
  std::vector<double> positions;
  for (int64_t row = 0; row < z.rows; ++row) {
    const int64_t documents[] = {z.packed ? z.length * (3 + row) / 7 : z.length, 1, z.length};
    const int64_t end = row == 0 || !z.packed ? z.length : z.length - 2;
    int64_t s = 0;
    for (int64_t length : documents) {
      for (int64_t position = 0; position < length && s < end; ++position, ++s) {
        positions.push_back(static_cast<double>(position));
      }
    }
    for (; s < z.length; ++s) positions.push_back(-1);
  }
  return positions;
}

AttentionBackwardArgs Args(const Tensors& t) {
  return {.forward = {.q = t["q"],
                      .k = t["k"],
                      .k_shared = t["k_shared"],
                      .v = t["v"],
                      .positions = t["positions"],
                      .key_index = {},
                      .scale = kScale,
                      .out = t["out"],
                      .lse = t["lse"]},
          .d_out = t["d_out"],
          .dq = t["d_q"],
          .dk = t["d_k"],
          .dk_shared = t["d_k_shared"],
          .dv = t["d_v"]};
}

void Setup(const Shape& shape, Problem& p) {
  const Sizes z(shape);
  const Shape q = {z.rows, z.length, z.heads, z.n + z.r}, k = {z.rows, z.length, z.key_heads, z.n};
  const Shape shared = {z.rows, z.length, z.r}, v = {z.rows, z.length, z.key_heads, z.dv};
  const Shape out = {z.rows, z.length, z.heads, z.dv};
  p.Input("q", p.dtype, q).Normal().PerRow().Strided().Extremes({0, 6, -6});
  p.Input("k", p.dtype, k).Normal().PerRow().Strided().Extremes({0, 6, -6});
  if (z.r > 0) p.Input("k_shared", p.dtype, shared).Normal().PerRow().Strided();
  p.Input("v", p.dtype, v).Normal().PerRow().Strided().Extremes({0, 20});
  p.Input("d_out", p.dtype, out).Normal().PerRow().Strided();
  p.Input("positions", DType::kI32, {z.rows, z.length}).Set(Positions(z)).PerRow();

  // Errors of scores (a chain over n + r of products up to 36) are relative errors of weights.
  const bool bf16 = p.dtype == DType::kBf16;
  const double sum = bf16 ? 8e-3 : p.extreme ? 2e-5 : 2e-6;
  const double gradient = bf16 ? p.extreme ? 1e-1 : 2e-2 : p.extreme ? 1e-4 : 1e-5;
  p.Output("out", p.dtype, out, Near(p.dtype, sum, sum, "weights rounded to the dtype")).PerRow().Strided();
  p.Output("lse", DType::kF32, {z.rows, z.length, z.heads}, Near(DType::kF32, 2e-6, 2e-6, "chains in f32")).PerRow();
  const Tolerance products =
      Near(p.dtype, gradient, gradient, "rounded weights, dP - D cancels, D from a rounded output");
  p.Output("d_q", p.dtype, q, products).PerRow().Strided();
  p.Output("d_k", p.dtype, k, products).PerRow().Strided();
  if (z.r > 0) p.Output("d_k_shared", p.dtype, shared, products).PerRow().Strided();
  p.Output("d_v", p.dtype, v, products).PerRow().Strided();
  const int64_t bytes = z.rows * z.key_heads * z.length * z.r * 4;
  p.Workspace("workspace", [bytes](const Kernels&) { return bytes; });
}

void RunForward(Kernels& k, const Tensors& t) { k.Attention(Args(t).forward); }

void RunBackward(Kernels& k, const Tensors& t) {
  CHECK_EQ(k.AttentionBackwardWorkspace(Args(t)), t["workspace"].Bytes());
  k.AttentionBackward(Args(t), t["workspace"]);
}

// Multiply-adds per pair of a query and a key that it sees: `widths` n + r and `values` dv of them.
double Flops(const Shape& shape, double widths, double values) {
  const Sizes z(shape);
  double pairs = 0;
  for (double position : Positions(z)) pairs += static_cast<double>(z.heads) * (position + 1);
  return 2 * pairs * (widths * static_cast<double>(z.n + z.r) + values * static_cast<double>(z.dv));
}

}  // namespace

OpCase MakeAttentionCase() {
  OpCase c{.name = "attention",
           .dims = "rows x length x heads x key_heads x n x r x dv x packed",
           .shapes = {{0, 4, 2, 2, 8, 4, 8, 0},
                      {1, 5, 1, 1, 1, 0, 1, 1},
                      {3, 20, 4, 2, 24, 0, 50, 1},
                      {2, 33, 3, 3, 20, 4, 16, 1},
                      {2, 7, 2, 1, 9, 3, 5, 1},
                      {1, 150, 1, 1, 8, 8, 12, 0},
                      {1, 190, 2, 1, 10, 0, 6, 1}},
           .bench_shapes = {{8, 256, 4, 4, 32, 16, 32, 0},
                            {8, 256, 4, 4, 32, 16, 32, 1},
                            {2, 1024, 4, 4, 32, 16, 32, 0},
                            {1, 4096, 4, 4, 32, 16, 32, 0},
                            {1, 2048, 16, 4, 128, 0, 128, 0}}};
  c.setup = Setup;
  c.steps = {{.name = "Attention",
              .touches = {"q", "k", "k_shared", "v", "out"},
              .run = RunForward,
              .flops = [](const Shape& s) { return Flops(s, 1, 1); }},
             {.name = "AttentionBackward",
              .touches = {"q", "k", "k_shared", "v", "out", "d_out", "d_q", "d_k", "d_k_shared", "d_v"},
              .run = RunBackward,
              .flops = [](const Shape& s) { return Flops(s, 3, 2); }}};
  c.SetFormula(AttentionFormula{});
  return c;
}

}  // namespace conclave::core::test
