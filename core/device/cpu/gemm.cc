// SPDX-License-Identifier: Apache-2.0
// y = x W^T over packed panels. x is read in place: the tile kernel broadcasts single elements of its rows.
#include <algorithm>
#include <type_traits>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gemm_block.h"
#include "core/device/cpu/lanes.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// y = round(c + bias + addend) for `rows` rows from `row` on and `columns` columns from `column` on. A: of the addend.
template <class A, class Y>
void FinishAs(const GemmArgs& gemm, int64_t row, int64_t rows, int64_t column, int columns, const float* c) {
  const float* bias = gemm.bias ? gemm.bias.As<float>() + column : nullptr;
  for (int64_t m = row; m < row + rows; ++m, c += kPanelColumns) {
    const A* addend = gemm.addend ? gemm.addend.As<A>() + m * gemm.addend.stride(0) + column : nullptr;
    Y* y = gemm.y.As<Y>() + m * gemm.y.stride(0) + column;
    ForEachVector(columns, [&](int64_t n, auto lanes) {
      F32x16 sum = LoadLanes(c + n, lanes);
      if (bias) sum = sum + LoadLanes(bias + n, lanes);
      if (addend) sum = sum + LoadLanes(addend + n, lanes);
      StoreLanes(y + n, sum, lanes);
    });
  }
}

void Finish(const GemmArgs& gemm, int64_t row, int64_t rows, int64_t column, int columns, const float* c) {
  DispatchFloat(gemm.addend ? gemm.addend.dtype : DType::kF32, [&](auto addend) {
    DispatchFloat(gemm.y.dtype,
                  [&](auto y) { FinishAs<decltype(addend), decltype(y)>(gemm, row, rows, column, columns, c); });
  });
}

// Brings rows of y or of the addend close while their products are being computed.
[[gnu::always_inline]] inline void Fetch(const Tensor& t, int64_t row, int64_t rows, int64_t column, int columns) {
  const int64_t size = SizeOf(t.dtype), stride = t.stride(0) * size;
  if (t) FetchRows(t.As<char>() + row * stride + column * size, rows, columns * size, stride);
}

// Rows of x as the tile kernel reads them.
template <class T>
struct OperandRows {
  const Operand<T>* data;
  int64_t stride;  // in steps
};

// In place where they are operands already, if they do not fall into the same few cache sets: rows that stand pages
// apart do. An odd length or stride of rows that are read in pairs needs a padded copy, too.
template <class T>
OperandRows<T> RowsOf(const Tensor& x, int64_t begin, int64_t end, ThreadPool& pool, int thread) {
  constexpr int kDepth = kStepDepth<T>;
  constexpr int64_t kPage = 4096, kSpread = 16;  // bytes; steps
  const int64_t depth = x.size(1), row = x.stride(0), steps = PanelSteps<T>(depth);
  const T* data = x.As<T>() + begin * row;
  if constexpr (std::is_same_v<T, Operand<T>>) {
    const bool apart = row * static_cast<int64_t>(sizeof(T)) % kPage != 0 || end - begin <= kTileRows;
    if (depth % kDepth == 0 && row % kDepth == 0 && apart) return {data, row / kDepth};
  }
  const int64_t padded = (steps + kSpread) * kDepth;
  const int64_t bytes = (end - begin) * padded * static_cast<int64_t>(sizeof(Operand<T>));
  auto* copy = static_cast<Operand<T>*>(pool.Scratch(thread, bytes));
  for (int64_t m = 0; m < end - begin; ++m) PackRow<T>(data + m * row, depth, copy + m * padded);
  return {copy, steps + kSpread};
}

// One block of rows of x times one panel.
template <class T>
class PanelProduct {
 public:
  PanelProduct(const GemmArgs& gemm, const OperandRows<T>& x, int64_t begin, int64_t end, int64_t matrix, int64_t panel)
      : gemm_(gemm),
        x_(x),
        begin_(begin),
        rows_(end - begin),
        panel_(panel),
        steps_(PanelSteps<T>(gemm.w.in)),
        b_(gemm.w.panels.As<Operand<T>>() + matrix * MatrixPanelElements<T>(gemm.w.out, gemm.w.in) +
           panel * PanelElements<T>(gemm.w.in)) {}

  // next_rows: what to fetch first.
  void Run(Ahead& next_rows) const {
    const int64_t column = panel_ * kPanelColumns;
    const int columns = ColumnsOfPanel(gemm_.w.out, panel_);
    alignas(64) float tiles[kRowBlock * kPanelColumns];
    // Without an epilogue the tiles go straight to y, but not for each of many chunks of k: rows of y that stand a
    // power of two apart would push each other out of the cache again and again.
    constexpr int64_t kFewChunks = 4;
    const bool direct =
        gemm_.y.dtype == DType::kF32 && !gemm_.bias && !gemm_.addend && steps_ <= kFewChunks * kTileSteps;
    float* c = direct ? gemm_.y.As<float>() + begin_ * gemm_.y.stride(0) + column : tiles;
    const int64_t ldc = direct ? gemm_.y.stride(0) : kPanelColumns;
    int64_t first = 0;
    do {  // the chain of an element goes on from one chunk of k to the next through memory, in f32
      const int64_t count = steps_ - first < kTileSteps ? steps_ - first : kTileSteps;
      if (first + count == steps_) {
        Fetch(gemm_.y, begin_, rows_, column, columns);
        Fetch(gemm_.addend, begin_, rows_, column, columns);
      }
      Ahead next_panel = Panels(first + count, count);
      GemmTile(rows_, columns, count, x_.data + first * kStepDepth<T>, x_.stride, 1,
               b_ + first * kPanelColumns * kStepDepth<T>, c, ldc, first > 0,
               next_rows.done() ? next_panel : next_rows);
      first += count;
    } while (first < steps_);
    if (!direct) Finish(gemm_, begin_, rows_, column, columns, c);
  }

 private:
  // So many steps of the panels from step `first` of this one on.
  Ahead Panels(int64_t first, int64_t count) const {
    constexpr int64_t kStep = kPanelColumns * kStepDepth<T>;
    return Ahead(b_ + first * kStep, count * kStep * static_cast<int64_t>(sizeof(Operand<T>)));
  }

  const GemmArgs& gemm_;
  const OperandRows<T> x_;
  const int64_t begin_, rows_, panel_, steps_;
  const Operand<T>* const b_;
};

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

void MultiplyRows(const GemmArgs& gemm, int64_t begin, int64_t end, const PanelRun& panels, ThreadPool& pool,
                  int thread) {
  DispatchFloat(gemm.w.dtype, [&](auto zero) {
    using T = decltype(zero);
    const OperandRows<T> x = RowsOf<T>(gemm.x, begin, end, pool, thread);
    const int64_t size = SizeOf(gemm.x.dtype), stride = gemm.x.stride(0) * size;
    Ahead next_rows(gemm.x.As<char>() + end * stride, gemm.w.in * size, std::min(end - begin, gemm.x.size(0) - end),
                    stride);
    for (int64_t panel = panels.first; panel < panels.last; ++panel) {
      PanelProduct<T>(gemm, x, begin, end, panels.matrix, panel).Run(next_rows);
    }
  });
}

void CpuKernels::Gemm(const GemmArgs& args) {
  CheckGemm(args);
  CHECK_EQ(args.w.matrices, 1);
  const int64_t rows = args.x.size(0), panels = NumPanels(args.w.out);
  int64_t block = kRowBlock;
  while (block > kTileRows && (rows + block - 1) / block * panels < kItemsPerThread * pool_.size()) block /= 2;
  const int64_t items = (rows + block - 1) / block * panels;
  const int64_t grain = GemmGrain(items, panels, rows * panels * 3 * args.w.in, pool_.size());
  pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int thread) {
    ForEachPanelRun(first, last, panels, [&](int64_t index, int64_t first_panel, int64_t last_panel) {
      const int64_t begin = index * block, end = begin + block < rows ? begin + block : rows;
      MultiplyRows(args, begin, end, {0, first_panel, last_panel}, pool_, thread);
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
