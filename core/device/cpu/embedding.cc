// SPDX-License-Identifier: Apache-2.0
// The lookup and its gradient. The tokens are sorted by (id, token), so a parameter's tokens stand together in the
// order of rows and positions: one thread takes all tokens of an id for a block of columns, sums each row's part as one
// f32 chain, and adds it to the parameter's. No two threads ever meet in the gradient.
#include <algorithm>

#include "core/base/check.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"
#include "core/device/cpu/gradient_sum.h"
#include "core/device/cpu/lanes.h"
#include "core/device/cpu/sort_keys.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kColumns = 8 * kLanes;  // of a column block: its sums fit the registers
constexpr int64_t kSpan = 64;             // sorted tokens of a piece of work

uint64_t SortKey(int32_t id, int64_t token) { return static_cast<uint64_t>(id) << 32 | static_cast<uint64_t>(token); }
int64_t IdOf(uint64_t key) { return static_cast<int64_t>(key >> 32); }
int64_t TokenOf(uint64_t key) { return static_cast<int64_t>(key & 0xffffffff); }

struct SortedTokens {
  const uint64_t* keys;
  int64_t count;
  const int32_t* row_ends;  // [rows], in tokens
  int64_t rows;

  // One past the last sorted place whose token has the id of `begin` and stands in the same row of the batch.
  int64_t EndOfChain(int64_t begin) const {
    const int64_t token = TokenOf(keys[begin]);
    const int64_t row_end = *std::upper_bound(row_ends, row_ends + rows, static_cast<int32_t>(token));
    int64_t end = begin + 1;
    while (end < count && IdOf(keys[end]) == IdOf(keys[begin]) && TokenOf(keys[end]) < row_end) ++end;
    return end;
  }
};

struct ColumnBlock {
  int64_t begin, width;
};

template <class T, class Sum>
void AddChain(const uint64_t* keys, int64_t count, const Tensor& dy, ColumnBlock columns,
              const GradientTarget& target) {
  F32x16 chain[kColumns / kLanes];
  std::fill(std::begin(chain), std::end(chain), Set(0.0f));
  for (int64_t i = 0; i < count; ++i) {
    const T* row = dy.As<T>() + TokenOf(keys[i]) * dy.stride(0) + columns.begin;
    ForEachVector(columns.width,
                  [&](int64_t c, auto lanes) { chain[c / kLanes] = chain[c / kLanes] + LoadLanes(row + c, lanes); });
  }
  Sum* sum = target.sum.As<Sum>() + IdOf(keys[0]) * target.sum.stride(0) + columns.begin;
  for (int64_t c = 0; c < columns.width; c += kLanes) {
    const F32x16 x = chain[c / kLanes];
    if (AnyBeyond(x, target.limit)) SetFlag(target.flag.As<int32_t>());
    if (const int64_t rest = columns.width - c; rest < kLanes) {
      AddPartToSum(sum + c, x, static_cast<int>(rest));
    } else {
      AddToSum(sum + c, x);
    }
  }
}

// All ids whose first sorted place lies in [begin, end).
template <class T, class Sum>
void AddIds(const SortedTokens& tokens, int64_t begin, int64_t end, const Tensor& dy, ColumnBlock columns,
            const GradientTarget& target) {
  const auto continues = [&](int64_t i) { return i > 0 && IdOf(tokens.keys[i]) == IdOf(tokens.keys[i - 1]); };
  while (begin < end && continues(begin)) ++begin;
  if (begin == end) return;
  for (int64_t i = begin; i < tokens.count && (i < end || continues(i));) {
    const int64_t chain_end = tokens.EndOfChain(i);
    AddChain<T, Sum>(tokens.keys + i, chain_end - i, dy, columns, target);
    i = chain_end;
  }
}

}  // namespace

void CpuKernels::Embedding(Tensor table, Tensor ids, Tensor y) {
  const int64_t hidden = y.size(1);
  CHECK(table.dtype == DType::kF32 && ids.dtype == DType::kI32);
  CHECK_EQ(table.size(1), hidden);
  CHECK_EQ(ids.Elements(), y.size(0));
  DispatchFloat(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    pool_.ParallelFor(y.size(0), RowGrain(hidden), [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        const int64_t id = ids.As<int32_t>()[t];
        CHECK_LT(id, table.size(0));
        T* out = y.As<T>() + t * y.stride(0);
        const float* row = table.As<float>() + std::max<int64_t>(id, 0) * table.stride(0);
        ForEachVector(hidden, [&](int64_t i, auto lanes) {
          StoreLanes(out + i, id < 0 ? Set(0.0f) : LoadLanes(row + i, lanes), lanes);
        });
      }
    });
  });
}

int64_t CpuKernels::EmbeddingGradWorkspace(int64_t tokens, int64_t) const {
  return tokens * static_cast<int64_t>(sizeof(uint64_t));  // the sort keys
}

void CpuKernels::EmbeddingGrad(Tensor ids, Tensor dy, Tensor row_offsets, const GradientTarget& target,
                               Tensor workspace) {
  const int64_t num_tokens = ids.Elements(), hidden = dy.size(1);
  CHECK(ids.dtype == DType::kI32 && row_offsets.dtype == DType::kI32);
  CHECK_EQ(dy.size(0), num_tokens);
  CHECK_EQ(target.sum.size(1), hidden);
  CHECK_GE(workspace.Bytes(), EmbeddingGradWorkspace(num_tokens, hidden));
  const int64_t rows = row_offsets.Elements() - 1;
  CHECK_EQ(row_offsets.As<int32_t>()[rows], num_tokens);
  uint64_t* keys = workspace.As<uint64_t>();
  int64_t count = 0;
  for (int64_t t = 0; t < num_tokens; ++t) {
    const int32_t id = ids.As<int32_t>()[t];
    CHECK_LT(id, target.sum.size(0));
    if (id >= 0) keys[count++] = SortKey(id, t);
  }
  SortKeys(keys, keys + count);
  const SortedTokens tokens = {keys, count, row_offsets.As<int32_t>() + 1, rows};
  const int64_t spans = (count + kSpan - 1) / kSpan, blocks = (hidden + kColumns - 1) / kColumns;
  const auto run = [&]<class T, class Sum>(T, Sum) {
    pool_.ParallelFor(spans * blocks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t work = begin; work < end; ++work) {
        const int64_t span = work / blocks * kSpan, column = work % blocks * kColumns;
        AddIds<T, Sum>(tokens, span, std::min(span + kSpan, count), dy, {column, std::min(kColumns, hidden - column)},
                       target);
      }
    });
  };
  DispatchSum(target.sum.dtype, [&](auto sum) { DispatchFloat(dy.dtype, [&](auto zero) { run(zero, sum); }); });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
