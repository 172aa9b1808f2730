// SPDX-License-Identifier: Apache-2.0
// out = softmax(scale q k^T, keys up to the query's own) v, one block of keys after the other (FlashAttention, Dao
// 2022). A work item is up to 256 (query, head) rows that read the same key head: the panels of a key block are packed
// once for all of them, then groups of 64 rows pass over it. When decoding it is all heads of a sequence, which take
// turns at each block: its keys and values stand beside each other. Per row and block, with m the largest q k so far
// and weights w = e^(scale (q k - m')):
//   m' = max(m, block),  f = e^(scale (m - m')),  l' = l f + sum of w,  acc' = acc f + w v,  at the end out = acc / l;
// w is rounded to the compute dtype for the product, not for the sum.
#include "core/device/cpu/attention_block.h"
#include "core/device/cpu/attention_few_rows.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kItemRows = 256;
constexpr int64_t kGroupRows = 64;
constexpr float kMasked = -__builtin_inff();

// What is cut into items: runs of queries, by runs of key heads.
struct Items {
  int64_t queries, parts, heads;  // of an item; of a row; of an item

  Items(const AttentionSizes& sizes, int threads)
      : queries(std::clamp<int64_t>(kItemRows / sizes.Group(), 1, std::max<int64_t>(1, sizes.queries))),
        parts((sizes.queries + queries - 1) / queries),
        heads(sizes.queries == 1 && sizes.batch >= 2 * threads ? sizes.key_heads : 1) {}
  int64_t Rows(const AttentionSizes& sizes) const { return queries * sizes.Group(); }  // of a head
  int64_t Count(const AttentionSizes& sizes) const { return parts * sizes.batch * (sizes.key_heads / heads); }
};

template <class T>
struct ForwardMemory {
  ForwardMemory(const AttentionSizes& sizes, const Items& items, void* memory)
      : carver(memory),
        padded_depth(PanelSteps<T>(sizes.depth) * kStepDepth<T>),
        rows(items.heads * items.Rows(sizes)),
        q(carver.Take<Operand<T>>(rows * padded_depth)),
        keys(carver.Take<T>(kKeyBlock * sizes.depth)),
        key_panels(carver.Take<Operand<T>>(2 * PanelElements<T>(sizes.depth))),
        value_panels(carver.Take<Operand<T>>(NumPanels(sizes.width) * PanelElements<T>(kKeyBlock))),
        scores(carver.Take<float>(kGroupRows * kKeyBlock)),
        weights(InPlaceOr<T>(scores, kGroupRows * kKeyBlock, carver)),
        sums(carver.Take<float>(rows * sizes.width)),
        largest(carver.Take<float>(rows)),
        total(carver.Take<float>(rows)) {}

  // The same with what belongs to rows from `row` on.
  ForwardMemory From(int64_t row, const AttentionSizes& sizes) const {
    ForwardMemory out = *this;
    out.q += row * padded_depth;
    out.sums += row * sizes.width;
    out.largest += row;
    out.total += row;
    return out;
  }

  Carver carver;
  int64_t padded_depth, rows;
  Operand<T>* q;             // [rows][padded_depth]
  T* keys;                   // [96][depth]: where a block's keys are gathered
  Operand<T>* key_panels;    // 2 panels: B(k, key)
  Operand<T>* value_panels;  // panels of dv: B(key, n)
  float* scores;             // [64][96]
  Operand<T>* weights;       // [64][96]; the memory of the scores, where operands are floats
  float* sums;               // [rows][dv]
  float* largest;            // [rows]: m
  float* total;              // [rows]: l
};

// The largest of the first `visible` (at least 1) scores. Those up to a whole vector become -infinity.
float MaskedLargest(float* scores, int64_t visible) {
  const int64_t whole = visible - visible % kLanes;
  F32x16 largest = Set(kMasked);
  for (int64_t i = 0; i < whole; i += kLanes) largest = Max(Load(scores + i), largest);
  if (whole < visible) {
    const F32x16 last = KeepLanes(Load(scores + whole), LanesBefore(whole, visible), Set(kMasked));
    Store(scores + whole, last);
    largest = Max(last, largest);
  }
  return Largest(largest);
}

// Weights of one row from its scores, zeros from `visible` to `computed`. Returns their sum.
template <class T>
float RowWeights(const float* scores, int64_t visible, int64_t computed, float scale, float largest,
                 Operand<T>* weights) {
  F32x16 sum = Set(0.0f);
  int64_t i = 0;
  for (; i < visible; i += kLanes) {
    const F32x16 weight = Exp2((Load(scores + i) - Set(largest)) * Set(scale));
    sum = sum + weight;
    StoreOperands<T>(weights + i, weight);
  }
  for (; i < computed; i += kLanes) StoreOperands<T>(weights + i, Set(0.0f));
  return Sum(sum);
}

inline void Scale(float* row, int64_t n, float factor) {
  ForEachVector(n, [&](int64_t i, auto lanes) { StoreLanes(row + i, LoadLanes(row + i, lanes) * Set(factor), lanes); });
}

// The work of one thread on one run of queries and one key head.
template <class T>
class RunForward {
 public:
  RunForward(const AttentionArgs& args, int64_t b, int64_t g, const QueryRun& run, const AttentionSizes& sizes,
             const ForwardMemory<T>& scratch)
      : args_(args), b_(b), g_(g), run_(run), sizes_(sizes), scratch_(scratch) {}

  int64_t keys() const { return run_.position + run_.count; }

  void Begin() {
    for (int64_t row = 0; row < rows(); ++row) {
      PackRow<T>(At<T>(args_.q, row), sizes_.depth, scratch_.q + row * scratch_.padded_depth);
      scratch_.largest[row] = kMasked;
      scratch_.total[row] = 0;
    }
  }
  // The keys from `first` on.
  void Block(int64_t first) {
    const int64_t first_row = std::max<int64_t>(0, first - run_.position) * sizes_.Group();  // that sees the block
    if constexpr (kHasFewRows<T>) {
      if (rows() <= kMostFewRows) {
        for (int64_t row = first_row; row < rows(); row += kFewRows) {
          FewRows(first, row, std::min<int64_t>(kFewRows, rows() - row));
        }
        return;
      }
    }
    PackBlock(first, std::min(kKeyBlock, keys() - first));
    for (int64_t row = first_row; row < rows(); row += kGroupRows) {
      RowGroup(first, row, std::min(kGroupRows, rows() - row));
    }
  }
  void End() {
    for (int64_t row = 0; row < rows(); ++row) Finish(row);
  }

 private:
  int64_t rows() const { return run_.count * sizes_.Group(); }
  // Rows are ordered by query, then head: those of a tile see almost the same keys.
  template <class E>
  E* At(const Tensor& x, int64_t row) const {
    const int64_t s = run_.begin + row / sizes_.Group(), h = g_ * sizes_.Group() + row % sizes_.Group();
    return x.As<E>() + b_ * x.stride(0) + s * x.stride(1) + h * x.stride(2);
  }
  // Keys of the block from `first` on that a row sees: at most 96.
  int64_t Visible(int64_t first, int64_t row) const {
    return std::min(kKeyBlock, run_.position + row / sizes_.Group() + 1 - first);
  }

  void PackBlock(int64_t first, int64_t count) {
    const int64_t key = run_.first_key + first;
    PackRowPanels<T>(sizes_.depth, count, Gather(KeysFrom<T>(args_, b_, g_, key), count, scratch_.keys),
                     scratch_.key_panels);
    PackColumnPanels<T>(count, sizes_.width, ValueRows<T>(args_, b_, g_, key), scratch_.value_panels,
                        PanelElements<T>(kKeyBlock));
  }

  // body(begin, end, computed): rows of a group that are multiplied with the same number of keys. Where the diagonal
  // passes, tiles of few rows waste few products.
  template <class Body>
  void ForEachTile(int64_t first, int64_t row, int64_t rows, const Body& body) const {
    const int64_t step = Visible(first, row) == kKeyBlock ? kGroupRows : kTileRows;
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t end = std::min(rows, begin + step);
      body(begin, end, Visible(first, row + end - 1));
    }
  }

  void RowGroup(int64_t first, int64_t row, int64_t rows) {
    ForEachTile(first, row, rows, [&](int64_t begin, int64_t end, int64_t computed) {
      Multiply<T>({.rows = end - begin,
                   .columns = computed,
                   .steps = PanelSteps<T>(sizes_.depth),
                   .a = scratch_.q + (row + begin) * scratch_.padded_depth,
                   .a_row_stride = PanelSteps<T>(sizes_.depth),
                   .a_step_stride = 1,
                   .panels = scratch_.key_panels,
                   .pitch = PanelElements<T>(sizes_.depth)},
                  scratch_.scores + begin * kKeyBlock, kKeyBlock, false);
    });
    for (int64_t i = 0; i < rows; i += kLanes) Softmax(first, row, i, std::min<int64_t>(rows, i + kLanes));
    ForEachTile(first, row, rows, [&](int64_t begin, int64_t end, int64_t computed) {
      Multiply<T>({.rows = end - begin,
                   .columns = sizes_.width,
                   .steps = PanelSteps<T>(computed),
                   .a = scratch_.weights + begin * kKeyBlock,
                   .a_row_stride = PanelSteps<T>(kKeyBlock),
                   .a_step_stride = 1,
                   .panels = scratch_.value_panels,
                   .pitch = PanelElements<T>(kKeyBlock)},
                  scratch_.sums + (row + begin) * sizes_.width, sizes_.width, first > 0);
    });
  }

  void FewRows(int64_t first, int64_t row, int64_t rows) {
    const int64_t key = run_.first_key + first, count = Visible(first, row + rows - 1);
    const KeyParts<T> keys = KeysFrom<T>(args_, b_, g_, key);
    DispatchFewRows(rows, [&](auto num_rows) {
      FewScores<T, num_rows>(keys, count, scratch_.q + row * scratch_.padded_depth, scratch_.padded_depth,
                             scratch_.scores);
      Softmax(first, row, 0, rows);
      AddFewValues<T, num_rows>(ValueRows<T>(args_, b_, g_, key), count, sizes_.width, scratch_.weights,
                                scratch_.sums + row * sizes_.width, first > 0,
                                row + rows == this->rows() ? WhatIsNext(first) : KeysAhead());
    });
  }

  // This head's share of the keys behind those from `first` on, or of the next sequence's. Values stand between
  // them.
  KeysAhead WhatIsNext(int64_t first) const {
    const int64_t left = std::min(kKeyBlock, keys() - first - kKeyBlock);
    if (sizes_.queries > 1 || (left <= 0 && b_ + 1 == sizes_.batch)) return {};
    const KeyParts<T> next = left > 0 ? KeysFrom<T>(args_, b_, 0, run_.first_key + first + kKeyBlock)
                                      : KeysFrom<T>(args_, b_ + 1, 0, run_.first_key);
    const int64_t wanted = left > 0 ? left : std::min(kKeyBlock, keys());  // sequences are about as long
    const int64_t share = wanted * next.own.stride * static_cast<int64_t>(sizeof(T)) / sizes_.key_heads;
    return {reinterpret_cast<const char*>(next.own.data) + g_ * share, share};
  }

  // From scores to weights for rows [begin, end) of the group at `row`, at most 16; what belongs to a row is one lane.
  void Softmax(int64_t first, int64_t row, int64_t begin, int64_t end) {
    alignas(64) float largest[kLanes] = {}, factor[kLanes], sum[kLanes] = {};
    for (int64_t i = begin; i < end; ++i) {
      largest[i - begin] = MaskedLargest(scratch_.scores + i * kKeyBlock, Visible(first, row + i));
    }
    float *const row_largest = scratch_.largest + row + begin, *const row_total = scratch_.total + row + begin;
    const int lanes = static_cast<int>(end - begin);
    const float scale = args_.scale * kLog2E;
    const F32x16 before = LoadPart(row_largest, lanes), joined = Max(Load(largest), before);
    const F32x16 factors = Exp2((before - joined) * Set(scale));
    Store(largest, joined);
    Store(factor, factors);
    for (int64_t i = begin; i < end; ++i) {
      // Up to the last row's keys: more than any tile reads of this row.
      sum[i - begin] =
          RowWeights<T>(scratch_.scores + i * kKeyBlock, Visible(first, row + i), Visible(first, row + end - 1), scale,
                        largest[i - begin], scratch_.weights + i * kKeyBlock);
      if (first > 0 && factor[i - begin] != 1) {
        Scale(scratch_.sums + (row + i) * sizes_.width, sizes_.width, factor[i - begin]);
      }
    }
    StorePart(row_largest, joined, lanes);
    StorePart(row_total, LoadPart(row_total, lanes) * factors + Load(sum), lanes);
  }

  void Finish(int64_t row) {
    const float* sums = scratch_.sums + row * sizes_.width;
    const F32x16 total = Set(scratch_.total[row]);
    T* out = At<T>(args_.out, row);
    // + 0: the sign of a zero sum depends on masked keys, that of the output must not.
    ForEachVector(sizes_.width, [&](int64_t i, auto lanes) {
      StoreLanes(out + i, LoadLanes(sums + i, lanes) / total + Set(0.0f), lanes);
    });
    const double largest = static_cast<double>(args_.scale) * static_cast<double>(scratch_.largest[row]);
    *At<float>(args_.lse, row) = static_cast<float>(largest + ExactLog(static_cast<double>(scratch_.total[row])));
  }

  const AttentionArgs& args_;
  const int64_t b_, g_;
  const QueryRun run_;
  const AttentionSizes& sizes_;
  const ForwardMemory<T>& scratch_;
};

template <class T>
void ZeroPadding(const AttentionArgs& args, int64_t b, int64_t g, int64_t heads, const QueryRun& run,
                 const AttentionSizes& sizes) {
  for (int64_t s = run.begin; s < run.begin + run.count; ++s) {
    for (int64_t h = g * sizes.Group(); h < (g + heads) * sizes.Group(); ++h) {
      std::memset(args.out.As<T>() + b * args.out.stride(0) + s * args.out.stride(1) + h * args.out.stride(2), 0,
                  sizes.width * sizeof(T));
      args.lse.As<float>()[b * args.lse.stride(0) + s * args.lse.stride(1) + h * args.lse.stride(2)] = 0;
    }
  }
}

// One run of queries and the key heads of an item.
template <class T>
void ForwardHeads(const AttentionArgs& args, int64_t b, int64_t first_head, const QueryRun& run,
                  const AttentionSizes& sizes, const Items& items, const ForwardMemory<T>& scratch) {
  const auto for_each_head = [&](const auto& body) {
    for (int64_t i = 0; i < items.heads; ++i) {
      const ForwardMemory<T> own = scratch.From(i * items.Rows(sizes), sizes);
      RunForward<T> head(args, b, first_head + i, run, sizes, own);
      body(head);
    }
  };
  for_each_head([](RunForward<T>& head) { head.Begin(); });
  for (int64_t first = 0; first < run.position + run.count; first += kKeyBlock) {
    for_each_head([&](RunForward<T>& head) { head.Block(first); });
  }
  for_each_head([](RunForward<T>& head) { head.End(); });
}

template <class T>
void Forward(const AttentionArgs& args, ThreadPool& pool) {
  const AttentionSizes sizes(args);
  const Items items(sizes, pool.size());
  const int64_t bytes = ForwardMemory<T>(sizes, items, nullptr).carver.used();
  const int64_t head_items = sizes.key_heads / items.heads;
  // By head, late queries first: they read most keys, and no thread should be left with one at the end.
  pool.ParallelFor(items.Count(sizes), 1, [&](int64_t begin, int64_t end, int thread) {
    const ForwardMemory<T> scratch(sizes, items, pool.Scratch(thread, bytes));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t part = items.parts - 1 - item % items.parts, run = item / items.parts;
      const int64_t b = run / head_items, g = run % head_items * items.heads;
      const int64_t last = std::min(sizes.queries, (part + 1) * items.queries);
      ForEachRun(args, b, part * items.queries, last, [&](const QueryRun& queries) {
        if (queries.position < 0) return ZeroPadding<T>(args, b, g, items.heads, queries, sizes);
        ForwardHeads<T>(args, b, g, queries, sizes, items, scratch);
      });
    }
  });
}

}  // namespace

void CpuKernels::Attention(const AttentionArgs& args) {
  CheckAttention(args);
  DispatchFloat(args.q.dtype, [&](auto zero) { Forward<decltype(zero)>(args, pool_); });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
