// SPDX-License-Identifier: Apache-2.0
// y = x W^T over packed panels. x is read in place: the tile kernel broadcasts single elements of its rows.
#include <cstring>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gemm_block.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// Steps of k per pass over a row block: a chunk of a panel is 192 KiB, and 128 rows of x another 512 KiB at most,
// within a second-level cache of 1 MiB. The chain of an element goes on from one chunk to the next through memory, in
// f32.
constexpr int64_t kChunkSteps = 1024;

// Any element of a row of f32 or bf16 as floats.
F32x16 LoadAs(const Tensor& t, int64_t index, int lanes) {
  return t.dtype == DType::kF32 ? LoadPart(t.As<float>() + index, lanes) : LoadPart(t.As<Bf16>() + index, lanes);
}

// y = round(c + bias + addend) for `rows` rows from `row` on and `columns` columns from `column` on.
void Finish(const GemmArgs& gemm, int64_t row, int64_t rows, int64_t column, int columns, const float* c) {
  for (int64_t m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; n += kLanes) {
      const int lanes = columns - n < kLanes ? columns - n : kLanes;
      F32x16 sum = Load(c + m * kPanelColumns + n);
      if (gemm.bias) sum = sum + LoadAs(gemm.bias, column + n, lanes);
      if (gemm.addend) sum = sum + LoadAs(gemm.addend, (row + m) * gemm.addend.stride(0) + column + n, lanes);
      const int64_t out = (row + m) * gemm.y.stride(0) + column + n;
      if (gemm.y.dtype == DType::kF32) {
        StorePart(gemm.y.As<float>() + out, sum, lanes);
      } else {
        StorePart(gemm.y.As<Bf16>() + out, sum, lanes);
      }
    }
  }
}

// Brings rows of y or of the addend close while their products are being computed.
[[gnu::always_inline]] inline void Fetch(const Tensor& t, int64_t row, int64_t rows, int64_t column, int columns) {
  const int64_t size = SizeOf(t.dtype), stride = t.stride(0) * size;
  if (t) FetchRows(t.As<char>() + row * stride + column * size, rows, columns * size, stride);
}

// Rows of x as whole steps: element (m, s) of a row block.
template <class T>
struct StepRows {
  const T* data;
  int64_t stride;  // in steps
};

// bf16 rows are read in pairs; an odd length or an odd stride needs a padded copy.
template <class T>
StepRows<T> RowsOfSteps(const Tensor& x, int64_t begin, int64_t end, ThreadPool& pool, int thread) {
  constexpr int kDepth = kStepDepth<T>;
  const int64_t depth = x.size(1), row = x.stride(0), steps = PanelSteps<T>(depth);
  const T* data = x.As<T>() + begin * row;
  if (depth % kDepth == 0 && row % kDepth == 0) return {data, row / kDepth};
  const int64_t padded = steps * kDepth;
  T* copy = static_cast<T*>(pool.Scratch(thread, (end - begin) * padded * static_cast<int64_t>(sizeof(T))));
  for (int64_t m = 0; m < end - begin; ++m) {
    std::memcpy(copy + m * padded, data + m * row, depth * sizeof(T));
    if (padded > depth) copy[m * padded + depth] = T{};
  }
  return {copy, steps};
}

// What the tile at row m of `rows` should fetch: the first panel's tiles the next rows of x, later ones the next panel.
template <class T>
Ahead WhatIsNext(const GemmArgs& gemm, const StepRows<T>& x, int64_t m, int64_t panel, int64_t steps, const T* b) {
  constexpr int64_t kStepBytes = kStepDepth<T> * static_cast<int64_t>(sizeof(T)), kLine = 64;
  if (panel == 0 && x.stride == steps) {
    return {x.data + (m + kTileRows) * x.stride * kStepDepth<T>, kTileRows * kStepBytes};
  }
  const int64_t line = m / kTileRows;  // of the three of a step
  if (panel + 1 == NumPanels(gemm.w.out) || line * kLine >= kPanelColumns * kStepBytes) return {};
  return {reinterpret_cast<const char*>(b + PanelElements<T>(gemm.w.in)) + line * kLine, kPanelColumns * kStepBytes};
}

template <class T>
void MultiplyRowsOf(const GemmArgs& gemm, int64_t matrix, int64_t begin, int64_t end, int64_t panel, ThreadPool& pool,
                    int thread) {
  const PackedWeight& w = gemm.w;
  const int64_t steps = PanelSteps<T>(w.in), column = panel * kPanelColumns;
  const int columns = ColumnsOfPanel(w.out, panel);
  const T* b = w.panels.As<T>() + matrix * MatrixPanelElements<T>(w.out, w.in) + panel * PanelElements<T>(w.in);
  const StepRows<T> x = RowsOfSteps<T>(gemm.x, begin, end, pool, thread);
  alignas(64) float tiles[kRowBlock * kPanelColumns];
  // Without an epilogue the tiles go straight to y.
  const bool direct = gemm.y.dtype == DType::kF32 && !gemm.bias && !gemm.addend;
  float* c = direct ? gemm.y.As<float>() + begin * gemm.y.stride(0) + column : tiles;
  const int64_t ldc = direct ? gemm.y.stride(0) : kPanelColumns;
  int64_t first = 0;
  do {
    const int64_t count = steps - first < kChunkSteps ? steps - first : kChunkSteps;
    const bool last = first + count == steps;
    for (int64_t m = 0; m < end - begin; m += kTileRows) {
      const int64_t rows = end - begin - m < kTileRows ? end - begin - m : kTileRows;
      if (last) {
        Fetch(gemm.y, begin + m, rows, column, columns);
        Fetch(gemm.addend, begin + m, rows, column, columns);
      }
      GemmTile<T>(rows, columns, count, x.data + (m * x.stride + first) * kStepDepth<T>, x.stride, 1,
                  b + first * kPanelColumns * kStepDepth<T>, c + m * ldc, ldc, first > 0,
                  WhatIsNext(gemm, x, m, panel, steps, b));
      if (last && !direct) Finish(gemm, begin + m, rows, column, columns, c + m * ldc);
    }
    first += count;
  } while (first < steps);
}

}  // namespace

void CheckGemm(const GemmArgs& gemm) {
  CHECK(gemm.x.dtype == gemm.w.dtype);
  CHECK(gemm.x.rank == 2 && gemm.y.rank == 2);
  CHECK(gemm.y.dtype == DType::kF32 || gemm.y.dtype == DType::kBf16);
  CHECK_EQ(gemm.x.size(1), gemm.w.in);
  CHECK_EQ(gemm.y.size(1), gemm.w.out);
  CHECK_EQ(gemm.y.size(0), gemm.x.size(0));
  if (gemm.bias) {
    CHECK(gemm.bias.dtype == DType::kF32);
    CHECK_EQ(gemm.bias.Elements(), gemm.w.out);
  }
  if (gemm.addend) {
    CHECK(gemm.addend.dtype == DType::kF32 || gemm.addend.dtype == DType::kBf16);
    CHECK_EQ(gemm.addend.size(0), gemm.x.size(0));
    CHECK_EQ(gemm.addend.size(1), gemm.w.out);
  }
}

void MultiplyRows(const GemmArgs& gemm, int64_t matrix, int64_t begin, int64_t end, int64_t panel, ThreadPool& pool,
                  int thread) {
  DispatchFloat(gemm.w.dtype,
                [&](auto zero) { MultiplyRowsOf<decltype(zero)>(gemm, matrix, begin, end, panel, pool, thread); });
}

void CpuKernels::Gemm(const GemmArgs& args) {
  CheckGemm(args);
  CHECK_EQ(args.w.matrices, 1);
  const int64_t rows = args.x.size(0), panels = NumPanels(args.w.out);
  int64_t block = kRowBlock;
  while (block > kTileRows && (rows + block - 1) / block * panels < kItemsPerThread * pool_.size()) block /= 2;
  const int64_t items = (rows + block - 1) / block * panels;
  const int64_t grain = GemmGrain(items, rows * panels * 3 * args.w.in, pool_.size());
  pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int thread) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t begin = item / panels * block, end = begin + block < rows ? begin + block : rows;
      MultiplyRows(args, 0, begin, end, item % panels, pool_, thread);
    }
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
