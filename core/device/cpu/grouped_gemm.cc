// SPDX-License-Identifier: Apache-2.0
// Gemm with the matrix of the row's expert. Items are (expert, row block, panel), counted from the offsets when the
// operation runs; handing them out dynamically balances experts of any sizes, from none of the rows to all of them.
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gemm_block.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// Walks the row blocks of all experts in order.
class RowBlocks {
 public:
  RowBlocks(const int32_t* offsets, int64_t experts, int64_t block)
      : offsets_(offsets), experts_(experts), block_(block) {}

  int64_t Count() const {
    int64_t count = 0;
    for (int64_t e = 0; e < experts_; ++e) count += Blocks(e);
    return count;
  }

  struct Rows {
    int64_t expert, begin, end;
  };
  // Row block `index` of all; the cursor only moves forward.
  Rows Find(int64_t index) {
    for (; index - passed_ >= Blocks(expert_); ++expert_) passed_ += Blocks(expert_);
    const int64_t begin = offsets_[expert_] + (index - passed_) * block_, last = offsets_[expert_ + 1];
    return {expert_, begin, begin + block_ < last ? begin + block_ : last};
  }

 private:
  int64_t Blocks(int64_t e) const { return (offsets_[e + 1] - offsets_[e] + block_ - 1) / block_; }

  const int32_t* offsets_;
  int64_t experts_, block_;
  int64_t expert_ = 0, passed_ = 0;  // row blocks of the experts before expert_
};

}  // namespace

void CpuKernels::GroupedGemm(const GroupedGemmArgs& args) {
  const GemmArgs gemm = {.x = args.x, .w = args.w, .bias = {}, .addend = {}, .y = args.y};
  CheckGemm(gemm);
  const int64_t experts = args.w.matrices, panels = NumPanels(args.w.out);
  CHECK_EQ(args.expert_offsets.Elements(), experts + 1);
  CHECK(args.expert_offsets.dtype == DType::kI32);
  const int32_t* offsets = args.expert_offsets.As<int32_t>();
  const int64_t rows = offsets[experts] - offsets[0];
  CHECK_LE(offsets[experts], args.x.size(0));
  int64_t block = kRowBlock;
  while (block > kTileRows && RowBlocks(offsets, experts, block).Count() * panels < kItemsPerThread * pool_.size()) {
    block /= 2;
  }
  const int64_t items = RowBlocks(offsets, experts, block).Count() * panels;
  const int64_t grain = GemmGrain(items, panels, rows * panels * 3 * args.w.in, pool_.size());
  pool_.ParallelFor(items, grain, [&](int64_t first, int64_t last, int thread) {
    RowBlocks blocks(offsets, experts, block);
    ForEachPanelRun(first, last, panels, [&](int64_t index, int64_t first_panel, int64_t last_panel) {
      const RowBlocks::Rows found = blocks.Find(index);
      MultiplyRows(gemm, found.begin, found.end, {found.expert, first_panel, last_panel}, pool_, thread);
    });
  });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
