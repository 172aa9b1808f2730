// SPDX-License-Identifier: Apache-2.0
// h = silu(g) u w with gate_up = g | u and silu(g) = g sigmoid(g); the optional weight w of a routed row is applied
// here, where the row is in registers. Rows at and beyond num_rows are neither read nor written.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

int64_t CountRows(const Tensor& x, const Tensor& num_rows) {
  if (!num_rows) return x.size(0);
  return std::min<int64_t>(x.size(0), *num_rows.As<int32_t>());
}

template <class T>
void SwiGluRow(const T* gate, const T* up, float weight, int64_t n, T* h) {
  const F32x16 w = Set(weight);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 g = StreamLanes(gate + i, lanes), u = StreamLanes(up + i, lanes);
    StoreLanes(h + i, g * Sigmoid(g) * u * w, lanes);
  });
}

// Returns the gradient of the weight. d silu / dg = s (1 + g (1 - s)), s = sigmoid(g).
template <class T>
float SwiGluRowBackward(const T* gate, const T* up, float weight, const T* dh, int64_t n, T* d_gate, T* d_up) {
  const F32x16 w = Set(weight), one = Set(1);
  F32x16 d_weight = Set(0);
  ForEachVector(n, [&](int64_t i, auto lanes) {
    const F32x16 g = StreamLanes(gate + i, lanes), u = StreamLanes(up + i, lanes), d = StreamLanes(dh + i, lanes);
    const F32x16 s = Sigmoid(g), silu = g * s, scaled = d * w;
    d_weight = Fma(d, silu * u, d_weight);
    StoreLanes(d_gate + i, scaled * u * (s * Fma(g, one - s, one)), lanes);
    StoreLanes(d_up + i, scaled * silu, lanes);
  });
  return Sum(d_weight);
}

}  // namespace

void CpuKernels::SwiGlu(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor h) {
  const int64_t n = h.size(1);
  CHECK_EQ(gate_up.size(1), 2 * n);
  CHECK(gate_up.dtype == h.dtype);
  DispatchFloat(h.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<const T> in(gate_up);
    const Rows<T> out(h);
    pool_.ParallelFor(CountRows(gate_up, num_rows), RowGrain(2 * n), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        SwiGluRow<T>(in[row], in[row] + n, row_weight ? row_weight.As<float>()[row] : 1.0f, n, out[row]);
      }
    });
  });
}

void CpuKernels::SwiGluBackward(Tensor gate_up, Tensor row_weight, Tensor num_rows, Tensor dh, Tensor d_gate_up,
                                Tensor d_row_weight) {
  const int64_t n = dh.size(1);
  CHECK_EQ(gate_up.size(1), 2 * n);
  CHECK(gate_up.dtype == dh.dtype && gate_up.dtype == d_gate_up.dtype);
  DispatchFloat(dh.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows<const T> in(gate_up), upstream(dh);
    const Rows<T> out(d_gate_up);
    pool_.ParallelFor(CountRows(gate_up, num_rows), RowGrain(2 * n), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row) {
        const float d_weight =
            SwiGluRowBackward<T>(in[row], in[row] + n, row_weight ? row_weight.As<float>()[row] : 1.0f, upstream[row],
                                 n, out[row], out[row] + n);
        if (d_row_weight) d_row_weight.As<float>()[row] = d_weight;
      }
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
