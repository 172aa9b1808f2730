// SPDX-License-Identifier: Apache-2.0
// What Gemm and GroupedGemm share: a block of rows of x times one panel of a matrix, with the epilogue of each tile
// while it is in the first-level cache. Work items are such pairs; panels run fastest, so that a row block stays in the
// second-level cache while the panels pass by.
#pragma once

#include <cstdint>

#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int64_t kRowBlock = 128;      // rows of an item, where there are items enough
inline constexpr int64_t kItemsPerThread = 8;  // what is enough

// Checks types and shapes, all but the number of rows.
void CheckGemm(const GemmArgs& gemm);

// y = round(x w + bias + addend) for rows [begin, end) and one panel of one matrix.
void MultiplyRows(const GemmArgs& gemm, int64_t matrix, int64_t begin, int64_t end, int64_t panel, ThreadPool& pool,
                  int thread);

// Items to hand out at once so that a chunk is not smaller than the price of handing it out (some 20,000 multiply-adds
// of 16 lanes), and there still are kItemsPerThread chunks per thread.
inline int64_t GemmGrain(int64_t items, int64_t vector_operations, int threads) {
  constexpr int64_t kWorthwhile = 20000;
  const int64_t per_item = vector_operations / (items > 0 ? items : 1) + 1;
  const int64_t by_price = kWorthwhile / per_item, by_balance = items / (kItemsPerThread * threads);
  const int64_t grain = by_price < by_balance ? by_price : by_balance;
  return grain > 1 ? grain : 1;
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
