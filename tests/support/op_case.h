// SPDX-License-Identifier: Apache-2.0
// One case per operation (with its backward): arrays, how to call it, and its formula. From these come the reference
// test, the gradient test, the batch, thread and machine laws, and the benchmark (tests/ops/op_test.cc, op_bench.cc).
//
//   struct SquareFormula {                         // the forward only, for T = double and T = std::complex<double>
//     template <class T>
//     void operator()(const Shape& shape, const Values<T>& in, Values<T>& out) const {
//       for (const T& x : in["x"]) out["y"].push_back(x * x);
//     }
//   };
//   OpCase MakeSquareCase() {
//     OpCase c{.name = "square", .dims = "rows x n", .shapes = {{3, 17}, {0, 4}}, .bench_shapes = {{4096, 4096}}};
//     c.setup = [](const Shape& shape, Problem& p) {
//       p.Input("x", p.dtype, shape).Normal().PerRow();
//       p.Input("d_y", p.dtype, shape).Normal().PerRow();
//       p.Output("y", p.dtype, shape, Near(p.dtype, 1e-7, 0, "one product")).PerRow();
//       p.Output("d_x", p.dtype, shape, Near(p.dtype, 2e-7, 0, "two products")).PerRow();
//     };
//     c.steps = {{"Square", {"x", "y"}, [](Kernels& k, const Tensors& t) { k.Square(t["x"], t["y"]); }, flops}, ...};
//     c.SetFormula(SquareFormula{});
//     return c;
//   }
//
// Names carry meaning. An output d_a, a being an input, must be the gradient of sum(d_y * y) with respect to a, taken
// over all formula outputs y that have an input d_y; the complex step computes it. The formula may produce more outputs
// than the operation, and it need not produce the gradients. i64 outputs are gradient sums (unit 2^-50). Dim 0 of a
// shape is the number of rows: arrays marked PerRow are cut along it for the batch law.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/check.h"
#include "core/device/kernels.h"
#include "tests/support/complex_step.h"
#include "tests/support/problem.h"

namespace conclave::core::test {

// The arrays of a problem as the formula sees them.
template <class T>
class Values {
 public:
  using ByName = std::map<std::string, std::vector<T>, std::less<>>;

  std::vector<T>& operator[](const std::string& name) { return arrays_[name]; }
  const std::vector<T>& operator[](std::string_view name) const {
    const auto found = arrays_.find(name);
    CHECK(found != arrays_.end());
    return found->second;
  }
  bool Has(std::string_view name) const { return arrays_.contains(name); }
  const ByName& all() const { return arrays_; }
  int64_t Integer(std::string_view name, int64_t i) const { return static_cast<int64_t>(Real((*this)[name][i])); }

 private:
  ByName arrays_;
};

// The arrays of a problem on a device; an array that the problem does not declare is an empty tensor (optional
// arguments).
class Tensors {
 public:
  Shape shape;  // of the problem
  Tensor& operator[](const std::string& name) { return tensors_[name]; }
  Tensor operator[](const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? Tensor{} : found->second;
  }

 private:
  std::map<std::string, Tensor> tensors_;
};

// One call of one operation of kernels.h.
struct OpStep {
  std::string name;                  // "RmsNormBackward"
  std::vector<std::string> touches;  // arrays read or written once: the bytes of the benchmark
  std::function<void(Kernels&, const Tensors&)> run;
  std::function<double(const Shape&)> flops;  // of the formula, not of the implementation
};

struct OpCase {
  using Formula = std::function<void(const Shape&, const Values<double>&, Values<double>&)>;
  using ComplexFormula = std::function<void(const Shape&, const Values<Complex>&, Values<Complex>&)>;

  std::string name;                      // letters, digits and _
  std::string dims;                      // names of the sizes in a shape: "rows x n"
  std::vector<Shape> shapes;             // for tests: small; odd sizes, 0, 1, more than one block
  std::vector<Shape> bench_shapes = {};  // for op_bench: those of real models
  std::vector<DType> dtypes = {DType::kF32, DType::kBf16};
  std::function<void(const Shape&, Problem&)> setup = {};
  std::vector<OpStep> steps = {};  // run in this order
  Formula formula = {};
  ComplexFormula complex_formula = {};

  template <class F>
  void SetFormula(F f) {
    formula = f;
    complex_formula = f;
  }
};

}  // namespace conclave::core::test
