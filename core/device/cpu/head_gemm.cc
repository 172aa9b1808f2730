// SPDX-License-Identifier: Apache-2.0
// One matrix per head: each is a Gemm on the columns that belong to its head, and all are one job.
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gemm_block.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

Tensor OfHead(const Tensor& x, int64_t head) {
  Tensor out = x.Slice(1, head, 1);  // [T, 1, n]
  out.rank = 2;
  out.sizes = {x.size(0), x.size(2)};
  out.strides = {x.stride(0), 1};
  return out;
}

GemmArgs GemmOf(const HeadGemmArgs& args, int64_t head) {
  return {.x = OfHead(args.x, head), .w = args.w, .bias = {}, .addend = {}, .y = OfHead(args.y, head)};
}

}  // namespace

void CpuKernels::HeadGemm(const HeadGemmArgs& args) {
  CHECK(args.x.rank == 3 && args.y.rank == 3);
  const int64_t rows = args.x.size(0), heads = args.w.matrices, panels = NumPanels(args.w.out);
  CHECK_EQ(args.x.size(1), heads);
  CHECK_EQ(args.y.size(1), heads);
  CheckGemm(GemmOf(args, 0));
  int64_t block = kRowBlock;
  while (block > kTileRows && heads * ((rows + block - 1) / block) * panels < kItemsPerThread * pool_.size()) {
    block /= 2;
  }
  const int64_t blocks = (rows + block - 1) / block, items = heads * blocks * panels;
  const int64_t grain = GemmGrain(items, panels, rows * heads * panels * 3 * args.w.in, pool_.size());
  pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int thread) {
    ForEachPanelRun(first, last, panels, [&](int64_t index, int64_t first_panel, int64_t last_panel) {
      const int64_t head = index / blocks, begin = index % blocks * block;
      MultiplyRows(GemmOf(args, head), begin, std::min(begin + block, rows), {head, first_panel, last_panel}, pool_,
                   thread);
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
