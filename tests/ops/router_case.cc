// SPDX-License-Identifier: Apache-2.0
// Router, BalanceLoss and RouterBackward, which takes the gradient of the weights and of the balance loss together. The
// extreme values are few and equal: ties.
#include <algorithm>
#include <limits>
#include <numeric>

#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

constexpr double kBalanceScale = 0.7, kWeightScale = 2.5;

// The last sizes of a shape: what kind of router it is, and who chooses.
enum Kind { kSigmoidBiasNormalized, kSoftmaxNormalized, kSoftmax, kSigmoid };
enum Choice { kOwn, kReplayed };
struct Options {
  int64_t rows, length, num_experts, top_k, num_groups, groups_kept, kind, choice;
  explicit Options(const Shape& s)
      : rows(s[0]),
        length(s[1]),
        num_experts(s[2]),
        top_k(s[3]),
        num_groups(s[4]),
        groups_kept(s[5]),
        kind(s[6]),
        choice(s[7]) {}
  bool softmax() const { return kind == kSoftmaxNormalized || kind == kSoftmax; }
  bool normalize() const { return kind == kSoftmaxNormalized || kind == kSigmoidBiasNormalized; }
};

std::vector<size_t> Best(const std::vector<double>& values, size_t count) {
  std::vector<size_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0u);
  std::stable_sort(ids.begin(), ids.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  ids.resize(count);
  return ids;
}

std::vector<size_t> Choose(const Options& o, std::vector<double> selection) {
  const size_t size = static_cast<size_t>(o.num_experts / o.num_groups);
  std::vector<double> groups;
  for (auto group = selection.begin(); group != selection.end(); group += static_cast<ptrdiff_t>(size)) {
    std::vector<double> sorted(group, group + static_cast<ptrdiff_t>(size));
    std::sort(sorted.rbegin(), sorted.rend());
    groups.push_back(size == 1 ? sorted[0] : sorted[0] + sorted[1]);
  }
  std::vector<bool> kept(groups.size());
  for (size_t g : Best(groups, static_cast<size_t>(o.groups_kept))) kept[g] = true;
  for (size_t e = 0; e < selection.size(); ++e) {
    if (!kept[e / size]) selection[e] = -std::numeric_limits<double>::infinity();
  }
  std::vector<size_t> experts = Best(selection, static_cast<size_t>(o.top_k));
  std::sort(experts.begin(), experts.end());
  return experts;
}

// Experts that have nothing to do with scores, by token: each the one or other of its k-th part of all.
std::vector<double> OddChoices(const Options& o) {
  std::vector<double> experts;
  for (int64_t t = 0; t < o.rows * o.length; ++t) {
    for (int64_t j = 0; j < o.top_k; ++j) {
      const int64_t begin = j * o.num_experts / o.top_k, end = (j + 1) * o.num_experts / o.top_k;
      experts.push_back(static_cast<double>(begin + (5 * t + 3 * j) % (end - begin)));
    }
  }
  return experts;
}

struct RouterFormula {
  template <class T>
  static std::vector<T> Scores(const Options& o, const T* logits) {
    using std::exp;
    std::vector<T> scores;
    double largest = Real(logits[0]);
    for (int64_t e = 0; e < o.num_experts; ++e) largest = std::max(largest, Real(logits[e]));
    for (int64_t e = 0; e < o.num_experts; ++e) {
      scores.push_back(o.softmax() ? exp(logits[e] - largest) : Sigmoid(logits[e]));
    }
    if (!o.softmax()) return scores;
    const T sum = std::accumulate(scores.begin(), scores.end(), T(0));
    for (T& s : scores) s /= sum;
    return scores;
  }

  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const Options o(shape);
    const size_t num_experts = static_cast<size_t>(o.num_experts);
    std::vector<T>&scores = out["scores"], &experts = out["experts"], &weights = out["weights"];
    std::vector<T>&fractions = out["fractions"], &loss = out["loss"];
    for (int64_t row = 0; row < o.rows; ++row) {
      std::vector<double> counts(num_experts);
      std::vector<T> shares(num_experts);
      double tokens = 0;
      for (int64_t t = row * o.length; t < (row + 1) * o.length; ++t) {
        if (in.Integer("positions", t) < 0) {
          scores.insert(scores.end(), num_experts, T(0));
          experts.insert(experts.end(), static_cast<size_t>(o.top_k), T(-1));
          weights.insert(weights.end(), static_cast<size_t>(o.top_k), T(0));
          continue;
        }
        const std::vector<T> s = Scores(o, &in["logits"][static_cast<size_t>(t) * num_experts]);
        scores.insert(scores.end(), s.begin(), s.end());
        std::vector<double> values, selection;
        for (size_t e = 0; e < num_experts; ++e) {
          values.push_back(Real(s[e]));
          selection.push_back(values[e] + (in.Has("bias") ? Real(in["bias"][e]) : 0));
        }
        std::vector<size_t> chosen = Choose(o, selection);
        for (size_t j = 0; in.Has("replayed") && j < chosen.size(); ++j) {
          chosen[j] = static_cast<size_t>(in.Integer("replayed", t * o.top_k + static_cast<int64_t>(j)));
        }
        T chosen_sum = o.normalize() ? T(0) : T(1);
        for (size_t e : chosen) chosen_sum += o.normalize() ? s[e] : T(0);
        for (size_t e : chosen) {
          experts.push_back(static_cast<double>(e));
          weights.push_back(s[e] / chosen_sum * kWeightScale);
        }
        const T sum = std::accumulate(s.begin(), s.end(), T(0));
        for (size_t e = 0; e < num_experts; ++e) shares[e] += s[e] / sum;
        for (size_t e : Best(values, static_cast<size_t>(o.top_k))) counts[e] += 1;
        tokens += 1;
      }
      loss.push_back(T(0));
      for (size_t e = 0; e < num_experts; ++e) {
        const double fraction =
            tokens > 0 ? static_cast<double>(num_experts) * counts[e] / (static_cast<double>(o.top_k) * tokens) : 0;
        fractions.push_back(fraction);
        if (tokens > 0) loss.back() += fraction * shares[e] / tokens;
      }
    }
  }
};

void Setup(const Shape& shape, Problem& p) {
  const Options o(shape);
  const int64_t tokens = o.rows * o.length;
  const Tolerance near = Near(DType::kF32, 1e-6, 0, "an exponential, sums of positive numbers");
  p.Input("logits", DType::kF32, {tokens, o.num_experts}).Normal(0, 1.5).PerRow().Strided().Extremes({-3, 0, 2});
  if (o.kind == kSigmoidBiasNormalized) p.Input("bias", DType::kF32, {o.num_experts}).Normal(0, 0.1);
  p.Input("positions", DType::kI32, {tokens}).Set({0, 1, 2, -1, 3, 4, 5}).PerRow();
  if (o.choice == kReplayed) p.Input("replayed", DType::kI32, {tokens, o.top_k}).Set(OddChoices(o)).PerRow();
  p.Input("d_weights", DType::kF32, {tokens, o.top_k}).Normal().PerRow();
  p.Input("d_loss", DType::kF64, {o.rows}).Set({kBalanceScale}).PerRow();
  p.Output("scores", DType::kF32, {tokens, o.num_experts}, near).PerRow();
  p.Output("experts", DType::kI32, {tokens, o.top_k}).PerRow();
  p.Output("weights", DType::kF32, {tokens, o.top_k}, near).PerRow();
  p.Output("fractions", DType::kF32, {o.rows, o.num_experts}, near).PerRow();
  p.Output("loss", DType::kF64, {o.rows}, near).PerRow();
  p.Output("d_logits", DType::kF32, {tokens, o.num_experts}, Near(DType::kF32, 1e-6, 1e-6, "differences from means"))
      .PerRow()
      .Strided();
}

RouterArgs Args(const Options& o, const Tensors& t) {
  return {.logits = t["logits"],
          .bias = t["bias"],
          .positions = t["positions"],
          .scoring = o.softmax() ? RouterArgs::Scoring::kSoftmax : RouterArgs::Scoring::kSigmoid,
          .num_groups = static_cast<int>(o.num_groups),
          .groups_kept = static_cast<int>(o.groups_kept),
          .top_k = static_cast<int>(o.top_k),
          .normalize = o.normalize(),
          .scale = kWeightScale,
          .replayed = t["replayed"],
          .scores = t["scores"],
          .experts = t["experts"],
          .weights = t["weights"]};
}

void RunRouter(Kernels& k, const Tensors& t) { k.Router(Args(Options(t.shape), t)); }

void RunBalanceLoss(Kernels& k, const Tensors& t) {
  const Options o(t.shape);
  k.BalanceLoss({.scores = t["scores"].Reshape({o.rows, o.length, o.num_experts}),
                 .positions = t["positions"].Reshape({o.rows, o.length}),
                 .top_k = static_cast<int>(o.top_k),
                 .fractions = t["fractions"],
                 .loss = t["loss"]});
}

void RunBackward(Kernels& k, const Tensors& t) {
  k.RouterBackward({.forward = Args(Options(t.shape), t),
                    .d_weights = t["d_weights"],
                    .fractions = t["fractions"],
                    .balance_scale = static_cast<float>(kBalanceScale),
                    .d_logits = t["d_logits"]});
}

// Operations per score; comparisons of the choice not counted.
auto FlopsPerScore(double count) {
  return [count](const Shape& s) { return count * static_cast<double>(s[0] * s[1] * s[2]); };
}

}  // namespace

OpCase MakeRouterCase() {
  OpCase c{.name = "router",
           .dims = "rows x length x experts x top_k x groups x groups_kept x kind x choice",
           .shapes = {{0, 4, 8, 2, 1, 1, kSigmoid, kOwn},
                      {1, 1, 1, 1, 1, 1, kSigmoidBiasNormalized, kOwn},
                      {3, 5, 8, 2, 8, 3, kSigmoidBiasNormalized, kOwn},
                      {3, 7, 24, 4, 4, 2, kSigmoidBiasNormalized, kOwn},
                      {2, 9, 21, 3, 1, 1, kSoftmaxNormalized, kOwn},
                      {4, 4, 64, 6, 1, 1, kSoftmax, kOwn},
                      {2, 8, 256, 8, 8, 4, kSigmoid, kOwn},
                      {0, 4, 8, 2, 1, 1, kSigmoid, kReplayed},
                      {3, 7, 24, 4, 4, 2, kSigmoidBiasNormalized, kReplayed},
                      {2, 9, 21, 3, 1, 1, kSoftmaxNormalized, kReplayed},
                      {4, 4, 64, 6, 1, 1, kSoftmax, kReplayed}},
           .bench_shapes = {{4, 1024, 64, 6, 1, 1, kSoftmax, kOwn},
                            {4, 1024, 256, 8, 8, 4, kSigmoidBiasNormalized, kOwn},
                            {4, 1024, 256, 8, 8, 4, kSigmoidBiasNormalized, kReplayed}},
           .dtypes = {DType::kF32}};
  c.setup = Setup;
  c.steps = {{.name = "Router",
              .touches = {"logits", "bias", "positions", "replayed", "scores", "experts", "weights"},
              .run = RunRouter,
              .flops = FlopsPerScore(5)},
             {.name = "BalanceLoss",
              .touches = {"scores", "positions", "fractions", "loss"},
              .run = RunBalanceLoss,
              .flops = FlopsPerScore(3)},
             {.name = "RouterBackward",
              .touches = {"scores", "positions", "experts", "d_weights", "fractions", "d_logits"},
              .run = RunBackward,
              .flops = FlopsPerScore(8)}};
  c.SetFormula(RouterFormula{});
  return c;
}

}  // namespace conclave::core::test
