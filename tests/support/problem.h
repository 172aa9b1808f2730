// SPDX-License-Identifier: Apache-2.0
// The arrays of one call of an operation, on the host: what they are called, how they start, how exact they must end.
// See op_case.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "core/base/check.h"
#include "core/base/fixed_sum.h"
#include "core/base/rng.h"
#include "core/device/kernels.h"
#include "core/tensor/dtype.h"
#include "tests/support/near.h"

namespace conclave::core::test {

using Shape = std::vector<int64_t>;
inline int64_t Elements(const Shape& shape) {
  int64_t n = 1;
  for (int64_t size : shape) n *= size;
  return n;
}

// One array, contiguous. Its contents are exactly what the device gets.
struct Array {
  enum class Role { kInput, kOutput, kWorkspace };

  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  Role role = Role::kInput;
  Tolerance tolerance;                                     // outputs
  std::function<int64_t(const Kernels&)> workspace_bytes;  // workspaces
  bool per_row = false, strided = false, random = false;
  uint64_t key = 0;                  // random key
  bool extreme = false;              // this problem is to have extreme values
  std::vector<unsigned char> bytes;  // outputs start as NaN, -1 as integers

  // ---- How it starts: inputs need one of these --------------------------------------------------------------------
  Array& Normal(double mean = 0, double deviation = 1);
  Array& Uniform(double low, double high);
  Array& Set(const std::vector<double>& values);  // cycled
  Array& Zeros() { return Set({0}); }
  Array& StartsAs(const Array& other);  // for operations in place
  // ---- What it is -------------------------------------------------------------------------------------------------
  Array& PerRow();   // cut along dim 0 when rows run alone
  Array& Strided();  // the operation accepts strided outer dims here
  // Every third element or so becomes one of these in the test with extreme values; comes last.
  Array& Extremes(const std::vector<double>& values);

  int64_t size() const { return Elements(shape); }
  double Get(int64_t i) const;  // i64: a gradient sum, times 2^-50
  void Put(int64_t i, double x);
  std::vector<double> ToDoubles() const;

 private:
  template <class T>
  T At(int64_t i) const {
    T value;
    std::memcpy(&value, bytes.data() + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
  template <class T>
  void PutAt(int64_t i, T value) {
    std::memcpy(bytes.data() + i * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
  }
};

struct Problem {
  Shape shape;                // of the case: what its dims say
  DType dtype = DType::kF32;  // of the computation: f32 or bf16
  bool extreme = false;
  uint64_t seed = 1;
  std::deque<Array> arrays;  // in the order of their declaration; references stay valid

  Array& Input(const std::string& name, DType dtype, const Shape& shape) { return Add(name, dtype, shape); }
  Array& Output(const std::string& name, DType dtype, const Shape& shape, const Tolerance& tolerance = {}) {
    Array& array = Add(name, dtype, shape);
    array.role = Array::Role::kOutput;
    array.tolerance = tolerance;
    return array;
  }
  // Memory whose size the backend says (packed weights, workspaces); its contents are never compared.
  void Workspace(const std::string& name, std::function<int64_t(const Kernels&)> bytes) {
    Array& array = Add(name, DType::kU8, {0});
    array.role = Array::Role::kWorkspace;
    array.workspace_bytes = std::move(bytes);
  }
  const Array* Find(const std::string& name) const {
    for (const Array& array : arrays) {
      if (array.name == name) return &array;
    }
    return nullptr;
  }
  Array* Find(const std::string& name) { return const_cast<Array*>(std::as_const(*this).Find(name)); }

 private:
  Array& Add(const std::string& name, DType dtype, const Shape& shape) {
    CHECK(Find(name) == nullptr);
    Array& array = arrays.emplace_back();
    array.name = name;
    array.dtype = dtype;
    array.shape = shape;
    array.bytes.assign(static_cast<size_t>(Elements(shape) * SizeOf(dtype)), 0xff);
    array.key = RandomKey(seed, RandomPurpose::kTest, arrays.size());
    array.extreme = extreme;
    return array;
  }
};

// ---- Implementation -------------------------------------------------------------------------------------------------

inline Array& Array::Normal(double mean, double deviation) {
  for (int64_t i = 0; i < size(); ++i) Put(i, mean + deviation * StandardNormal(key, static_cast<uint64_t>(i)));
  random = true;
  return *this;
}

inline Array& Array::Uniform(double low, double high) {
  for (int64_t i = 0; i < size(); ++i) {
    Put(i, low + (high - low) * UniformFloat(Philox(key, static_cast<uint64_t>(i), 0)[0]));
  }
  random = true;
  return *this;
}

inline Array& Array::Set(const std::vector<double>& values) {
  for (int64_t i = 0; i < size(); ++i) Put(i, values[static_cast<size_t>(i) % values.size()]);
  return *this;
}

inline Array& Array::StartsAs(const Array& other) {
  CHECK(other.dtype == dtype && other.shape == shape);
  bytes = other.bytes;
  random = other.random;
  return *this;
}

inline Array& Array::PerRow() {
  per_row = true;
  return *this;
}

inline Array& Array::Strided() {
  strided = true;
  return *this;
}

inline Array& Array::Extremes(const std::vector<double>& values) {
  for (int64_t i = 0; extreme && i < size(); ++i) {
    const auto draw = Philox(key, static_cast<uint64_t>(i), 1);
    if (draw[0] % 3 == 0) Put(i, values[draw[1] % values.size()]);
  }
  return *this;
}

inline double Array::Get(int64_t i) const {
  switch (dtype) {
    case DType::kF32:
      return At<float>(i);
    case DType::kBf16:
      return ToFloat(At<Bf16>(i));
    case DType::kI32:
      return At<int32_t>(i);
    case DType::kI64:
      return static_cast<double>(At<int64_t>(i)) * kGradientUnit;
    case DType::kF64:
      return At<double>(i);
    default:
      return At<uint8_t>(i);
  }
}

inline void Array::Put(int64_t i, double x) {
  switch (dtype) {
    case DType::kF32:
      return PutAt(i, static_cast<float>(x));
    case DType::kBf16:
      return PutAt(i, ToBf16(static_cast<float>(x)));
    case DType::kI32:
      return PutAt(i, static_cast<int32_t>(x));
    case DType::kI64:
      return PutAt(i, static_cast<int64_t>(x / kGradientUnit));
    case DType::kF64:
      return PutAt(i, x);
    default:
      return PutAt(i, static_cast<uint8_t>(x));
  }
}

inline std::vector<double> Array::ToDoubles() const {
  std::vector<double> values(static_cast<size_t>(size()));
  for (int64_t i = 0; i < size(); ++i) values[static_cast<size_t>(i)] = Get(i);
  return values;
}

}  // namespace conclave::core::test
