// SPDX-License-Identifier: Apache-2.0
// Puts a problem on a device, runs the steps of a case, and computes what must come out. See op_case.h.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/check.h"
#include "core/device/device.h"
#include "tests/support/op_case.h"

namespace conclave::core::test {

inline Problem MakeProblem(const OpCase& c, const Shape& shape, DType dtype, bool extreme = false) {
  Problem problem;
  problem.shape = shape;
  problem.dtype = dtype;
  problem.extreme = extreme;
  c.setup(shape, problem);
  return problem;
}

// The rows [begin, begin + count) of a problem as a problem of its own: arrays per row are cut, other random arrays are
// the same, and arrays with given values (offsets, counts) are those of the smaller shape.
inline Problem CutRows(const OpCase& c, const Problem& whole, int64_t begin, int64_t count) {
  Shape smaller = whole.shape;
  smaller[0] = count;
  Problem part = MakeProblem(c, smaller, whole.dtype, whole.extreme);
  for (Array& array : part.arrays) {
    const Array& source = *whole.Find(array.name);
    if (array.per_row) {
      const size_t row_bytes = source.bytes.size() / static_cast<size_t>(whole.shape[0]);
      const auto first = source.bytes.begin() + static_cast<ptrdiff_t>(row_bytes) * begin;
      array.bytes.assign(first, first + static_cast<ptrdiff_t>(row_bytes) * count);
    } else if (array.random) {
      array.bytes = source.bytes;
    }
  }
  return part;
}

enum class Layout { kContiguous, kStrided };

// The arrays of a problem in the memory of a device.
class PlacedProblem {
 public:
  PlacedProblem(const Problem& problem, Device& device, Layout layout)
      : problem_(problem), device_(device), stream_(device.CreateStream()), kernels_(device.CreateKernels(*stream_)) {
    tensors_.shape = problem.shape;
    for (const Array& array : problem.arrays) Place(array, layout);
  }

  void Run(const std::vector<OpStep>& steps) {
    for (const OpStep& step : steps) step.run(*kernels_, tensors_);
    device_.Synchronize(*stream_);
  }

  // A copy of the problem with the outputs as they are now on the device. Aborts if something was written between rows.
  Problem Read() {
    Problem result = problem_;
    for (Array& array : result.arrays) {
      if (array.role == Array::Role::kOutput) ReadArray(array);
    }
    return result;
  }

  int64_t Bytes(const std::string& name) const {
    const Tensor tensor = tensors_[name];
    return tensor ? tensor.Bytes() : 0;
  }

 private:
  static constexpr int64_t kGap = 5;  // elements between strided rows: odd, so that rows lose their alignment
  static constexpr unsigned char kGapByte = 0xfe;

  void Place(const Array& array, Layout layout) {
    Tensor tensor;
    tensor.dtype = array.dtype;
    tensor.rank = static_cast<int>(array.shape.size());
    const int64_t workspace = array.workspace_bytes ? array.workspace_bytes(*kernels_) : 0;
    std::copy(array.shape.begin(), array.shape.end(), tensor.sizes.begin());
    if (array.workspace_bytes) tensor.sizes[0] = workspace;
    int64_t stride = 1;
    for (int dim = tensor.rank - 1; dim >= 0; --dim) {
      tensor.strides[dim] = stride;
      stride *= tensor.sizes[dim];
      if (dim == tensor.rank - 1 && dim > 0 && array.strided && layout == Layout::kStrided) stride += kGap;
    }
    const int64_t bytes = stride * SizeOf(array.dtype);
    auto buffer = device_.Allocate(std::max<int64_t>(bytes, 1), array.name);
    CHECK(buffer.ok());
    tensor.data = (*buffer)->data();
    buffers_[array.name] = std::move(*buffer);
    tensors_[array.name] = tensor;
    if (array.role == Array::Role::kWorkspace) return;
    std::vector<unsigned char> host(static_cast<size_t>(bytes), kGapByte);
    ForEachRow(tensor, [&](int64_t at, int64_t from, int64_t n) {
      std::memcpy(host.data() + at, array.bytes.data() + from, static_cast<size_t>(n));
    });
    if (bytes > 0) device_.CopyToDevice(*stream_, host.data(), Tensor(tensor.data, DType::kU8, {bytes}));
  }

  void ReadArray(Array& array) {
    const Tensor& tensor = tensors_[array.name];
    const int64_t bytes = tensor.rank ? tensor.size(0) * tensor.stride(0) * SizeOf(array.dtype) : SizeOf(array.dtype);
    std::vector<unsigned char> host(static_cast<size_t>(bytes));
    if (bytes > 0) device_.CopyToHost(*stream_, Tensor(tensor.data, DType::kU8, {bytes}), host.data());
    device_.Synchronize(*stream_);
    ForEachRow(tensor, [&](int64_t at, int64_t to, int64_t n) {
      std::memcpy(array.bytes.data() + to, host.data() + at, static_cast<size_t>(n));
      std::fill_n(host.begin() + at, n, kGapByte);
    });
    CHECK(std::all_of(host.begin(), host.end(), [](unsigned char byte) { return byte == kGapByte; }));
  }

  // body(byte offset in the buffer, byte offset in the contiguous array, bytes) for each run of the last dim.
  template <class Body>
  static void ForEachRow(const Tensor& tensor, const Body& body) {
    const int64_t run = tensor.rank ? tensor.size(tensor.rank - 1) : 1;
    if (tensor.Elements() == 0) return;
    const int64_t pitch = tensor.rank > 1 ? tensor.stride(tensor.rank - 2) : run, size = SizeOf(tensor.dtype);
    for (int64_t i = 0; i < tensor.Elements() / run; ++i) body(i * pitch * size, i * run * size, run * size);
  }

  const Problem& problem_;
  Device& device_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Kernels> kernels_;
  std::map<std::string, std::unique_ptr<DeviceBuffer>> buffers_;
  Tensors tensors_;
};

inline Problem RunCase(const OpCase& c, const Problem& problem, Device& device, Layout layout = Layout::kContiguous) {
  PlacedProblem placed(problem, device, layout);
  placed.Run(c.steps);
  return placed.Read();
}

// ---- The truth ------------------------------------------------------------------------------------------------------

template <class T>
Values<T> FormulaInputs(const Problem& problem) {
  Values<T> in;
  for (const Array& array : problem.arrays) {
    if (array.role != Array::Role::kInput) continue;
    const std::vector<double> values = array.ToDoubles();
    in[array.name].assign(values.begin(), values.end());
  }
  return in;
}

// One true element of an output.
struct TrueElement {
  int64_t index;
  double value;
};

inline constexpr int64_t kGradientSamples = 40;  // elements of a large gradient that are checked

// The gradient with respect to input `name` at up to kGradientSamples elements, spread evenly, first and last included.
inline std::vector<TrueElement> TrueGradient(const OpCase& c, const Problem& problem, const std::string& name) {
  Values<Complex> in = FormulaInputs<Complex>(problem);
  std::vector<Complex>& x = in[name];
  const auto loss = [&] {
    Values<Complex> out;
    c.complex_formula(problem.shape, in, out);
    Complex sum = 0;
    for (const auto& [output, y] : out.all()) {
      if (!in.Has("d_" + output)) continue;
      const std::vector<Complex>& upstream = in["d_" + output];
      CHECK_EQ(upstream.size(), y.size());
      for (size_t i = 0; i < y.size(); ++i) {
        if (upstream[i] != 0.0) sum += upstream[i] * y[i];  // an untouched element (NaN) must have no gradient
      }
    }
    return sum;
  };
  std::vector<TrueElement> gradient;
  const int64_t n = static_cast<int64_t>(x.size()), samples = std::min(n, kGradientSamples);
  for (int64_t s = 0; s < samples; ++s) {
    const int64_t i = samples == 1 ? 0 : s * (n - 1) / (samples - 1);
    gradient.push_back({i, Derivative(x, static_cast<size_t>(i), loss)});
  }
  return gradient;
}

// What each output must be, at the elements that are known.
inline std::map<std::string, std::vector<TrueElement>> Truth(const OpCase& c, const Problem& problem) {
  const Values<double> in = FormulaInputs<double>(problem);
  Values<double> out;
  c.formula(problem.shape, in, out);
  std::map<std::string, std::vector<TrueElement>> truth;
  for (const Array& array : problem.arrays) {
    if (array.role != Array::Role::kOutput || array.size() == 0) continue;
    std::vector<TrueElement>& elements = truth[array.name];
    if (out.Has(array.name)) {
      CHECK_EQ(out[array.name].size(), array.size());
      for (int64_t i = 0; i < array.size(); ++i) elements.push_back({i, out[array.name][static_cast<size_t>(i)]});
      continue;
    }
    CHECK(array.name.starts_with("d_") && problem.Find(array.name.substr(2)) != nullptr);
    elements = TrueGradient(c, problem, array.name.substr(2));
  }
  return truth;
}

}  // namespace conclave::core::test
