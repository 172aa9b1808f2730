// SPDX-License-Identifier: Apache-2.0
// The head's cross entropy with both gradients. What training minimizes is scale (loss + z_loss z_sum), the upstream
// gradients of the two sums being constants; or, as a policy learns, a sum over tokens that have weights of their own,
// of logits at a temperature.
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

// rows x length x D x V
struct Sizes {
  int64_t rows, length, hidden, vocabulary;
  explicit Sizes(const Shape& s) : rows(s[0]), length(s[1]), hidden(s[2]), vocabulary(s[3]) {}
};

constexpr float kScale = 0.25f, kZLoss = 0.125f, kTemperature = 0.75f;

enum class Weights { kOfAll, kOfEach };

struct CrossEntropyFormula {
  Weights weights = Weights::kOfAll;
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    using std::exp, std::log;
    const Sizes z(shape);
    const std::vector<T>&x = in["x"], &w = in["w"];
    std::vector<T>&loss = out["loss"], &z_sum = out["z_sum"], &log_probs = out["log_probs"];
    loss.assign(static_cast<size_t>(z.rows), T(0));
    z_sum = loss;
    std::vector<T> logits(static_cast<size_t>(z.vocabulary));
    T weighted = 0;
    for (int64_t t = 0; t < z.rows * z.length; ++t) {
      const int64_t label = in.Integer("labels", t);
      log_probs.push_back(T(0));
      if (label < 0) continue;
      double largest = -HUGE_VAL;
      for (int64_t v = 0; v < z.vocabulary; ++v) {
        T logit = 0;
        for (int64_t d = 0; d < z.hidden; ++d) {
          logit += x[static_cast<size_t>(t * z.hidden + d)] * w[static_cast<size_t>(v * z.hidden + d)];
        }
        if (weights == Weights::kOfEach) logit /= T(kTemperature);
        logits[static_cast<size_t>(v)] = logit;
        largest = std::max(largest, Real(logit));
      }
      T sum = 0;
      for (const T& logit : logits) sum += exp(logit - T(largest));
      const T lse = T(largest) + log(sum);
      log_probs.back() = logits[static_cast<size_t>(label)] - lse;
      loss[static_cast<size_t>(t / z.length)] -= log_probs.back();
      z_sum[static_cast<size_t>(t / z.length)] += lse * lse;
      if (weights == Weights::kOfEach) weighted -= in["token_weights"][static_cast<size_t>(t)] * log_probs.back();
    }
    if (weights == Weights::kOfEach) out["weighted"].push_back(weighted);
  }
};

// Every fifth token or so has none.
std::vector<double> Labels(const Sizes& z) {
  std::vector<double> labels;
  for (int64_t t = 0; t < z.rows * z.length; ++t) {
    labels.push_back(t % 5 == 3 ? -1 : static_cast<double>((t * 7919 + 12) % z.vocabulary));
  }
  return labels;
}

void Setup(Weights weights, const Shape& shape, Problem& p) {
  const Sizes z(shape);
  const int64_t tokens = z.rows * z.length;
  const DType dtype = p.dtype;
  p.Input("x", dtype, {tokens, z.hidden}).Normal().PerRow().Strided().Extremes({0, 20, -20});
  p.Input("w", dtype, {z.vocabulary, z.hidden}).Normal(0, 0.3);
  p.Input("labels", DType::kI32, {tokens}).Set(Labels(z)).PerRow();
  if (weights == Weights::kOfEach) {
    p.Input("token_weights", DType::kF32, {tokens}).Normal(0, kScale).PerRow();
    p.Input("d_weighted", DType::kF64, {1}).Set({1});
  } else {
    p.Input("d_loss", DType::kF64, {z.rows}).Set({kScale}).PerRow();
    p.Input("d_z_sum", DType::kF64, {z.rows}).Set({kScale * kZLoss}).PerRow();
  }
  p.Input("flag", DType::kI32, {1}).Zeros();

  const double sum = p.extreme ? 1e-5 : 1e-6, gradient = dtype == DType::kBf16 ? 1e-2 : p.extreme ? 1e-4 : 1e-5;
  p.Output("loss", DType::kF64, {z.rows}, Near(DType::kF32, sum, sum, "logits and lse in f32")).PerRow();
  p.Output("z_sum", DType::kF64, {z.rows}, Near(DType::kF32, sum, sum, "lse in f32")).PerRow();
  p.Output("log_probs", DType::kF32, {tokens}, Near(DType::kF32, sum, sum, "logits and lse in f32")).PerRow();
  p.Output("d_x", dtype, {tokens, z.hidden}, Near(dtype, gradient, gradient, "d_logits rounded to the dtype"))
      .PerRow()
      .Strided();
  p.Output("d_w", DType::kI64, {z.vocabulary, z.hidden}, Near(DType::kF32, gradient, gradient, "the same")).Zeros();
  p.Workspace("weights", [z](const Kernels&) { return z.vocabulary * z.hidden * 4; });
  p.Workspace("head", [z, dtype](const Kernels& k) { return k.PackedBytes(dtype, 1, z.vocabulary, z.hidden); });
  p.Workspace("head_backward",
              [z, dtype](const Kernels& k) { return k.PackedBytes(dtype, 1, z.hidden, z.vocabulary); });
  p.Workspace("workspace", [z, tokens, dtype](const Kernels& k) {
    return k.CrossEntropyWorkspace(tokens, z.rows, z.hidden, z.vocabulary, dtype);
  });
}

PackedWeight Head(const Tensors& t) {
  return {.panels = t["head"], .dtype = t["x"].dtype, .out = t["w"].size(0), .in = t["w"].size(1)};
}
PackedWeight HeadBackward(const Tensors& t) {
  return {.panels = t["head_backward"], .dtype = t["x"].dtype, .out = t["w"].size(1), .in = t["w"].size(0)};
}

void RunPack(Kernels& k, const Tensors& t) {
  const Tensor weights(t["weights"].data, DType::kF32, {t["w"].size(0), t["w"].size(1)});
  k.Cast(t["w"], weights);
  k.PackWeight(weights, Head(t), HeadBackward(t));
}

void RunLoss(Kernels& k, const Tensors& t) {
  const bool weighted = static_cast<bool>(t["token_weights"]);
  k.LinearCrossEntropy({.x = t["x"],
                        .head = Head(t),
                        .labels = t["labels"],
                        .rows = t["loss"].size(0),
                        .z_loss = weighted ? 0 : kZLoss,
                        .temperature = weighted ? kTemperature : 1,
                        .loss = t["loss"],
                        .z_sum = t["z_sum"],
                        .log_probs = t["log_probs"],
                        .scale = weighted ? 0 : kScale,
                        .token_weights = t["token_weights"],
                        .head_backward = HeadBackward(t),
                        .dx = t["d_x"],
                        .target = {.sum = t["d_w"], .flag = t["flag"], .limit = 4096},
                        .workspace = t["workspace"]});
}

OpCase MakeCase(const char* name, Weights weights) {
  OpCase c{.name = name,
           .dims = "rows x length x D x V",
           .shapes = {{0, 4, 8, 10},
                      {1, 1, 1, 1},
                      {2, 5, 24, 265},
                      {3, 9, 7, 49},
                      {2, 17, 20, 384},
                      {1, 6, 11, 1001},
                      {1, 3, 1100, 30},
                      {2, 70, 5, 33}},
           .bench_shapes = {{8, 256, 256, 265}, {16, 256, 256, 4096}, {1, 1024, 1024, 32768}}};
  c.setup = [weights](const Shape& shape, Problem& p) { Setup(weights, shape, p); };
  c.steps = {{.name = "PackWeight",
              .touches = {"w", "head", "head_backward"},
              .run = RunPack,
              .flops = [](const Shape&) { return 0.0; }},
             {.name = "LinearCrossEntropy",
              .touches = {"x", "head", "head_backward", "d_x", "d_w"},
              .run = RunLoss,
              .flops = [](const Shape& s) { return 6.0 * static_cast<double>(Elements(s)); }}};
  c.SetFormula(CrossEntropyFormula{weights});
  return c;
}

}  // namespace

OpCase MakeCrossEntropyCase() { return MakeCase("cross_entropy", Weights::kOfAll); }
OpCase MakeWeightedCrossEntropyCase() { return MakeCase("weighted_cross_entropy", Weights::kOfEach); }

}  // namespace conclave::core::test
