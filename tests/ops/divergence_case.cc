// SPDX-License-Identifier: Apache-2.0
// The divergence of teacher and student, with the student's gradients: both directions, one with a weight for each
// token. What training minimizes is the sum over rows, d_divergence being constant.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

using Direction = DivergenceArgs::Direction;

// rows x length x D x D' x V
struct Sizes {
  int64_t rows, length, hidden, teacher_hidden, vocabulary;
  explicit Sizes(const Shape& s) : rows(s[0]), length(s[1]), hidden(s[2]), teacher_hidden(s[3]), vocabulary(s[4]) {}
  int64_t tokens() const { return rows * length; }
};

constexpr float kScale = 0.25f, kTemperature = 0.75f;

template <class T>
std::vector<T> LogProbs(const std::vector<T>& x, const std::vector<T>& w, int64_t token, int64_t hidden) {
  using std::exp, std::log;
  std::vector<T> logits(w.size() / static_cast<size_t>(hidden));
  double largest = -HUGE_VAL;
  for (size_t v = 0; v < logits.size(); ++v) {
    T& logit = logits[v];
    for (int64_t d = 0; d < hidden; ++d) {
      logit += x[static_cast<size_t>(token * hidden + d)] * w[v * static_cast<size_t>(hidden) + static_cast<size_t>(d)];
    }
    logit /= T(kTemperature);
    largest = std::max(largest, Real(logit));
  }
  T sum = 0;
  for (const T& logit : logits) sum += exp(logit - T(largest));
  for (T& logit : logits) logit -= T(largest) + log(sum);
  return logits;
}

struct DivergenceFormula {
  Direction direction;
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    using std::exp;
    const Sizes z(shape);
    const bool weighted = in.Has("token_weights");
    std::vector<T>&divergence = out["divergence"], &loss = out["loss"], &log_probs = out["log_probs"];
    divergence.assign(static_cast<size_t>(z.rows), T(0));
    loss = divergence;
    T sum = 0;
    for (int64_t t = 0; t < z.tokens(); ++t) {
      const int64_t label = in.Integer("labels", t);
      log_probs.push_back(T(0));
      if (label < 0) continue;
      const std::vector<T> s = LogProbs(in["x"], in["w"], t, z.hidden);
      const std::vector<T> q = LogProbs(in["teacher_x"], in["teacher_w"], t, z.teacher_hidden);
      T kl = 0;
      for (size_t v = 0; v < s.size(); ++v) {
        kl += direction == Direction::kForward ? exp(q[v]) * (q[v] - s[v]) : exp(s[v]) * (s[v] - q[v]);
      }
      const auto row = static_cast<size_t>(t / z.length);
      divergence[row] += kl;
      log_probs.back() = s[static_cast<size_t>(label)];
      loss[row] -= log_probs.back();
      if (weighted) sum += in["token_weights"][static_cast<size_t>(t)] * kl;
    }
    if (weighted) out["weighted"].push_back(sum);
  }
};

// Every fifth token or so has none.
std::vector<double> Labels(const Sizes& z) {
  std::vector<double> labels;
  for (int64_t t = 0; t < z.tokens(); ++t) {
    labels.push_back(t % 5 == 3 ? -1 : static_cast<double>((t * 7919 + 12) % z.vocabulary));
  }
  return labels;
}

PackedWeight Panels(const Tensors& t, const std::string& panels, const std::string& weights) {
  return {.panels = t[panels], .dtype = t["x"].dtype, .out = t[weights].size(0), .in = t[weights].size(1)};
}
PackedWeight HeadBackward(const Tensors& t) {
  return {.panels = t["head_backward"], .dtype = t["x"].dtype, .out = t["w"].size(1), .in = t["w"].size(0)};
}

DivergenceArgs Args(Direction direction, const Tensors& t) {
  return {.direction = direction,
          .student = {.x = t["x"],
                      .head = Panels(t, "head", "w"),
                      .labels = t["labels"],
                      .rows = t["loss"].size(0),
                      .temperature = kTemperature,
                      .loss = t["loss"],
                      .z_sum = {},
                      .log_probs = t["log_probs"],
                      .scale = t["token_weights"] ? 0 : kScale,
                      .token_weights = t["token_weights"],
                      .head_backward = HeadBackward(t),
                      .dx = t["d_x"],
                      .target = {.sum = t["d_w"], .flag = t["flag"], .limit = 4096},
                      .workspace = t["workspace"]},
          .teacher_x = t["teacher_x"],
          .teacher_head = Panels(t, "teacher_head", "teacher_w"),
          .divergence = t["divergence"]};
}

void RunPack(Kernels& k, const Tensors& t) {
  const PackedWeight nowhere{.panels = {}, .dtype = t["x"].dtype};
  for (const char* name : {"w", "teacher_w"}) {
    const bool is_student = name[0] == 'w';
    const Tensor weights(t["weights"].data, DType::kF32, {t[name].size(0), t[name].size(1)});
    k.Cast(t[name], weights);
    k.PackWeight(weights, Panels(t, is_student ? "head" : "teacher_head", name),
                 is_student ? HeadBackward(t) : nowhere);
  }
}

void Setup(bool weighted, const Shape& shape, Problem& p) {
  const Sizes z(shape);
  const DType dtype = p.dtype;
  p.Input("x", dtype, {z.tokens(), z.hidden}).Normal().PerRow().Strided().Extremes({0, 20, -20});
  p.Input("w", dtype, {z.vocabulary, z.hidden}).Normal(0, 0.3);
  p.Input("teacher_x", dtype, {z.tokens(), z.teacher_hidden}).Normal().PerRow().Strided().Extremes({0, 20, -20});
  p.Input("teacher_w", dtype, {z.vocabulary, z.teacher_hidden}).Normal(0, 0.3);
  p.Input("labels", DType::kI32, {z.tokens()}).Set(Labels(z)).PerRow();
  if (weighted) {
    p.Input("token_weights", DType::kF32, {z.tokens()}).Normal(0, kScale).PerRow();
    p.Input("d_weighted", DType::kF64, {1}).Set({1});
  } else {
    p.Input("d_divergence", DType::kF64, {z.rows}).Set({kScale}).PerRow();
  }
  p.Input("flag", DType::kI32, {1}).Zeros();

  // With logits of hundreds both are nearly certain, and what is left are differences of large numbers.
  const double sum = p.extreme ? 1e-4 : 3e-6, gradient = p.extreme ? 3e-2 : dtype == DType::kBf16 ? 1e-2 : 2e-5;
  p.Output("divergence", DType::kF64, {z.rows}, Near(DType::kF32, sum, sum, "logits and sums in f32")).PerRow();
  p.Output("loss", DType::kF64, {z.rows}, Near(DType::kF32, sum, sum, "logits and lse in f32")).PerRow();
  p.Output("log_probs", DType::kF32, {z.tokens()}, Near(DType::kF32, sum, sum, "logits and lse in f32")).PerRow();
  p.Output("d_x", dtype, {z.tokens(), z.hidden}, Near(dtype, gradient, gradient, "d_logits rounded to the dtype"))
      .PerRow()
      .Strided();
  p.Output("d_w", DType::kI64, {z.vocabulary, z.hidden}, Near(DType::kF32, gradient, gradient, "the same")).Zeros();
  p.Workspace("weights", [z](const Kernels&) { return z.vocabulary * std::max(z.hidden, z.teacher_hidden) * 4; });
  p.Workspace("head", [z, dtype](const Kernels& k) { return k.PackedBytes(dtype, 1, z.vocabulary, z.hidden); });
  p.Workspace("head_backward",
              [z, dtype](const Kernels& k) { return k.PackedBytes(dtype, 1, z.hidden, z.vocabulary); });
  p.Workspace("teacher_head",
              [z, dtype](const Kernels& k) { return k.PackedBytes(dtype, 1, z.vocabulary, z.teacher_hidden); });
  p.Workspace("workspace", [z, dtype](const Kernels& k) {
    const auto head = [&](int64_t hidden) {
      return PackedWeight{.panels = {}, .dtype = dtype, .out = z.vocabulary, .in = hidden};
    };
    DivergenceArgs args{.teacher_head = head(z.teacher_hidden)};
    args.student.x = Tensor(nullptr, dtype, {z.tokens(), z.hidden});
    args.student.head = head(z.hidden);
    args.student.rows = z.rows;
    return k.DivergenceWorkspace(args);
  });
}

OpCase MakeCase(const char* name, Direction direction, bool weighted) {
  OpCase c{.name = name,
           .dims = "rows x length x D x D' x V",
           .shapes = {{0, 4, 8, 12, 10},
                      {1, 1, 3, 2, 5},
                      {2, 5, 24, 40, 265},
                      {3, 9, 7, 5, 49},
                      {2, 17, 20, 6, 384},
                      {1, 6, 11, 30, 1001},
                      {1, 3, 300, 1100, 30},
                      {2, 70, 5, 9, 33}},
           .bench_shapes = {{8, 256, 256, 512, 4096}, {1, 1024, 1024, 2048, 32768}}};
  c.setup = [weighted](const Shape& shape, Problem& p) { Setup(weighted, shape, p); };
  c.steps = {{.name = "PackWeight",
              .touches = {"w", "teacher_w", "head", "head_backward", "teacher_head"},
              .run = RunPack,
              .flops = [](const Shape&) { return 0.0; }},
             {.name = "LinearDivergence",
              .touches = {"x", "teacher_x", "head", "head_backward", "teacher_head", "d_x", "d_w"},
              .run = [direction](Kernels& k, const Tensors& t) { k.LinearDivergence(Args(direction, t)); },
              .flops =
                  [](const Shape& s) {
                    const Sizes z(s);
                    return static_cast<double>(z.tokens() * z.vocabulary) *
                           (6.0 * static_cast<double>(z.hidden) + 2.0 * static_cast<double>(z.teacher_hidden));
                  }}};
  c.SetFormula(DivergenceFormula{direction});
  return c;
}

}  // namespace

OpCase MakeForwardDivergenceCase() { return MakeCase("forward_divergence", Direction::kForward, false); }
OpCase MakeReverseDivergenceCase() { return MakeCase("reverse_divergence", Direction::kReverse, true); }

}  // namespace conclave::core::test
