// SPDX-License-Identifier: Apache-2.0
// What Gemm and GroupedGemm share: a block of rows of x times a run of panels of a matrix, with the epilogue of each
// tile while it is in the first-level cache. Work items are pairs of a row block and a panel; panels run fastest, so
// that a row block stays in the second-level cache while the panels pass by.
#pragma once

#include <cstdint>

#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int64_t kRowBlock = 64;       // rows of an item, where there are items enough
inline constexpr int64_t kItemsPerThread = 8;  // what is enough

// Checks types and shapes, all but the number of rows.
void CheckGemm(const GemmArgs& gemm);

// Panels [first, last) of one matrix.
struct PanelRun {
  int64_t matrix, first, last;
};

// y = round(x w + bias + addend) for rows [begin, end) and the columns of some panels.
void MultiplyRows(const GemmArgs& gemm, int64_t begin, int64_t end, const PanelRun& panels, ThreadPool& pool,
                  int thread);

// Cuts items [first, last) into runs with one row block each: body(block, first_panel, last_panel).
template <class Body>
void ForEachPanelRun(int64_t first, int64_t last, int64_t panels, const Body& body) {
  for (int64_t item = first; item < last;) {
    const int64_t panel = item % panels, left = panels - panel;
    const int64_t count = left < last - item ? left : last - item;
    body(item / panels, panel, panel + count);
    item += count;
  }
}

// Items to hand out at once: all panels of a row block, or as many as outweigh the price of handing them out (some
// 20,000 multiply-adds of 16 lanes), but few enough that there are kItemsPerThread chunks per thread.
inline int64_t GemmGrain(int64_t items, int64_t panels, int64_t vector_operations, int threads) {
  constexpr int64_t kWorthwhile = 20000;
  const int64_t per_item = vector_operations / (items > 0 ? items : 1) + 1;
  const int64_t by_price = kWorthwhile / per_item, by_balance = items / (kItemsPerThread * threads);
  const int64_t wanted = by_price > panels ? by_price : panels, grain = wanted < by_balance ? wanted : by_balance;
  return grain > 1 ? grain : 1;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
