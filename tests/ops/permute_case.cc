// SPDX-License-Identifier: Apache-2.0
// From choices to routed rows and back: CountExperts, BuildPermutation, GatherRows, ScatterChoices, GatherChoices,
// Combine. Experts act as the identity here, so y = shared + (number of choices) x + addend; the order of the chain is
// in permute_test.cc.
#include <algorithm>
#include <limits>

#include "core/base/fixed_sum.h"
#include "core/base/rng.h"
#include "tests/ops/op_cases.h"

namespace conclave::core::test {
namespace {

struct Options {
  int64_t rows, length, num_experts, top_k, hidden;
  explicit Options(const Shape& s) : rows(s[0]), length(s[1]), num_experts(s[2]), top_k(s[3]), hidden(s[4]) {}
  int64_t tokens() const { return rows * length; }
  int64_t max_rows() const { return tokens() * top_k + 3; }  // three rows that nobody may touch
};

struct PermuteFormula {
  template <class T>
  void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
    const Options o(shape);
    const size_t n = static_cast<size_t>(o.hidden);
    const double nan = std::numeric_limits<double>::quiet_NaN();
    out["slot"].assign(static_cast<size_t>(o.tokens() * o.top_k), T(-1));
    out["weights_back"].assign(out["slot"].size(), T(0));
    out["token"].assign(static_cast<size_t>(o.max_rows()), T(-1));
    out["routed_weights"].assign(static_cast<size_t>(o.max_rows()), T(nan));
    out["routed_rows"].assign(static_cast<size_t>(o.max_rows()) * n, T(nan));
    out["segment_offsets"].push_back(T(0));
    out["expert_offsets"].push_back(T(0));
    std::vector<T>& y = out["y"] = in["shared"];
    size_t slot = 0;
    for (int64_t e = 0; e < o.num_experts; ++e) {
      for (int64_t t = 0; t < o.tokens(); ++t) {
        for (int64_t j = t * o.top_k; j < (t + 1) * o.top_k; ++j) {
          if (in.Integer("experts", j) != e) continue;
          out["slot"][static_cast<size_t>(j)] = static_cast<double>(slot);
          out["token"][slot] = static_cast<double>(t);
          out["routed_weights"][slot] = out["weights_back"][static_cast<size_t>(j)] =
              in["weights"][static_cast<size_t>(j)];
          for (size_t i = 0; i < n; ++i) {
            const T x = in["x"][static_cast<size_t>(t) * n + i];
            out["routed_rows"][slot * n + i] = x;
            y[static_cast<size_t>(t) * n + i] += x;
          }
          ++slot;
        }
        if ((t + 1) % o.length == 0) out["segment_offsets"].push_back(static_cast<double>(slot));
      }
      const double load = static_cast<double>(slot) - Real(out["expert_offsets"].back());
      out["load"].push_back(load * kGradientUnit);  // as an i64 output is read (op_case.h)
      out["expert_offsets"].push_back(static_cast<double>(slot));
    }
    for (size_t i = 0; i < y.size(); ++i) y[i] += in["addend"][i];
  }
};

// Ascending different experts for each token, none for every fifth token (padding).
std::vector<double> ChooseExperts(const Options& o) {
  std::vector<double> experts;
  for (int64_t t = 0; t < o.tokens(); ++t) {
    const KeyedPermutation order(static_cast<uint64_t>(t), static_cast<uint64_t>(o.num_experts));
    for (int64_t j = 0; j < o.top_k; ++j) {
      experts.push_back(t % 5 == 4 ? -1 : static_cast<double>(order(static_cast<uint64_t>(j))));
    }
    std::sort(experts.end() - o.top_k, experts.end());
  }
  return experts;
}

void Setup(const Shape& shape, Problem& p) {
  const Options o(shape);
  const Shape full = {o.tokens(), o.hidden}, choices = {o.tokens(), o.top_k};
  p.Input("x", p.dtype, full).Normal().PerRow().Strided();
  p.Input("experts", DType::kI32, choices).Set(ChooseExperts(o)).PerRow();
  std::vector<double> row_offsets;
  for (int64_t row = 0; row <= o.rows; ++row) row_offsets.push_back(static_cast<double>(row * o.length));
  p.Input("row_offsets", DType::kI32, {o.rows + 1}).Set(row_offsets);
  p.Input("weights", DType::kF32, choices).Normal().PerRow();
  p.Input("shared", p.dtype, full).Normal().PerRow().Strided();
  p.Input("addend", p.dtype, full).Normal().PerRow().Strided();
  p.Output("load", DType::kI64, {o.num_experts}).Zeros();
  p.Output("slot", DType::kI32, choices);
  p.Output("token", DType::kI32, {o.max_rows()});
  p.Output("expert_offsets", DType::kI32, {o.num_experts + 1});
  p.Output("segment_offsets", DType::kI32, {o.num_experts * o.rows + 1});
  p.Output("routed_rows", p.dtype, {o.max_rows(), o.hidden}).Strided();
  p.Output("routed_weights", DType::kF32, {o.max_rows()});
  p.Output("weights_back", DType::kF32, choices).PerRow();
  p.Output("y", p.dtype, full, Near(p.dtype, 1e-6, 1e-6, "a chain of up to k + 2 terms")).PerRow().Strided();
}

Permutation PermutationOf(const Tensors& t) {
  return {.slot = t["slot"],
          .token = t["token"],
          .expert_offsets = t["expert_offsets"],
          .segment_offsets = t["segment_offsets"]};
}

void RunBuild(Kernels& k, const Tensors& t) {
  k.BuildPermutation(t["experts"], t.shape[2], t["row_offsets"], PermutationOf(t));
}

double NoFlops(const Shape&) { return 0; }

double CombineFlops(const Shape& s) { return static_cast<double>(s[0] * s[1] * s[4]) * static_cast<double>(s[3] + 2); }

}  // namespace

OpCase MakePermuteCase() {
  OpCase c{.name = "permute",
           .dims = "rows x length x experts x top_k x hidden",
           .shapes = {{0, 4, 4, 2, 8}, {1, 1, 1, 1, 1}, {3, 7, 5, 2, 19}, {2, 6, 32, 4, 16}, {4, 3, 3, 3, 40}},
           .bench_shapes = {{4, 1024, 64, 6, 2048}}};
  c.setup = Setup;
  c.steps = {
      {"CountExperts",
       {"experts", "load"},
       [](Kernels& k, const Tensors& t) { k.CountExperts(t["experts"], t["load"]); },
       NoFlops},
      {"BuildPermutation", {"experts", "slot", "token", "expert_offsets", "segment_offsets"}, RunBuild, NoFlops},
      {"GatherRows",
       {"routed_rows", "routed_rows"},
       [](Kernels& k, const Tensors& t) { k.GatherRows(t["x"], PermutationOf(t), t["routed_rows"]); },
       NoFlops},
      {"ScatterChoices",
       {"weights", "slot", "routed_weights"},
       [](Kernels& k, const Tensors& t) { k.ScatterChoices(t["weights"], PermutationOf(t), t["routed_weights"]); },
       NoFlops},
      {"GatherChoices",
       {"routed_weights", "slot", "weights_back"},
       [](Kernels& k, const Tensors& t) { k.GatherChoices(t["routed_weights"], PermutationOf(t), t["weights_back"]); },
       NoFlops},
      {"Combine",
       {"routed_rows", "slot", "shared", "addend", "y"},
       [](Kernels& k, const Tensors& t) {
         k.Combine(
             {.rows = t["routed_rows"], .slot = t["slot"], .shared = t["shared"], .addend = t["addend"], .y = t["y"]});
       },
       CombineFlops}};
  c.SetFormula(PermuteFormula{});
  return c;
}

}  // namespace conclave::core::test
