// SPDX-License-Identifier: Apache-2.0
// Gradients of attention. Weights are computed again from lse: P = e^(scale q k - lse). With D = sum over dv of
// d_out * out (16 lanes): dV = P^T dO, dP = dO V^T, dS = P (dP - D), dQ = scale dS K, dK = scale dS^T Q; P and dS are
// rounded to the compute dtype for the products, sums are f32 and rounded once.
// A work item is one key head of one row. It takes the query heads of the group in ascending order, for each the blocks
// of 96 keys, for each the blocks of 96 queries that see them: every sum has one order, whatever the number of threads.
#include <type_traits>

#include "core/device/cpu/attention_block.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/dispatch.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

constexpr int64_t kQueryBlock = 96;

// Two bf16 rows as pairs: out[i] = (low[i], high[i]) for i < n, a multiple of 8.
inline void Interleave(const Bf16* low, const Bf16* high, int64_t n, Bf16* out) {
  for (int64_t i = 0; i < n; i += 8) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(low + i));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(high + i));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), _mm_unpacklo_epi16(a, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i + 8), _mm_unpackhi_epi16(a, b));
  }
}

// Weights and score gradients of 96 queries and 96 keys, as the products read them.
template <class T>
struct Tile {
  explicit Tile(Carver& carver)
      : scores(carver.Take<float>(kElements)),
        d_weights(carver.Take<float>(kElements)),
        by_query(InPlaceOr<T>(scores, kElements, carver)),
        weights_by_key(InPlaceOr<T>(d_weights, kElements, carver)),
        d_scores_by_key(InPlaceOr<T>(scores, kElements, carver)) {}

  static constexpr int64_t kElements = kQueryBlock * kKeyBlock;
  float* scores;                // [96][96]: q k
  float* d_weights;             // [96][96]: dP
  Operand<T>* by_query;         // [96][96]: dS, steps along keys
  Operand<T>* weights_by_key;   // P, steps along queries: float [96][96]; Bf16 [48][96][2]
  Operand<T>* d_scores_by_key;  // dS likewise
};

template <class T>
struct BackwardMemory {
  BackwardMemory(const AttentionSizes& sizes, void* memory)
      : carver(memory),
        padded_depth(PanelSteps<T>(sizes.depth) * kStepDepth<T>),
        padded_width(PanelSteps<T>(sizes.width) * kStepDepth<T>),
        q(carver.Take<Operand<T>>(sizes.queries * padded_depth)),
        d_out(carver.Take<Operand<T>>(sizes.queries * padded_width)),
        q_panels(carver.Take<Operand<T>>(NumPanels(sizes.depth) * PanelElements<T>(sizes.queries))),
        d_out_panels(carver.Take<Operand<T>>(NumPanels(sizes.width) * PanelElements<T>(sizes.queries))),
        lse(carver.Take<float>(sizes.queries)),
        output_dot(carver.Take<float>(sizes.queries)),
        dq(carver.Take<float>(sizes.queries * sizes.depth)),
        dk(carver.Take<float>(sizes.queries * sizes.depth)),
        dv(carver.Take<float>(sizes.queries * sizes.width)),
        keys(carver.Take<T>(kKeyBlock * sizes.depth)),
        key_row_panels(carver.Take<Operand<T>>(2 * PanelElements<T>(sizes.depth))),
        key_column_panels(carver.Take<Operand<T>>(NumPanels(sizes.depth) * PanelElements<T>(kKeyBlock))),
        value_row_panels(carver.Take<Operand<T>>(2 * PanelElements<T>(sizes.width))),
        tile(carver) {}

  Carver carver;
  int64_t padded_depth, padded_width;
  // Of one head and one document, from its first token.
  Operand<T>* q;             // [tokens][padded_depth]
  Operand<T>* d_out;         // [tokens][padded_width]
  Operand<T>* q_panels;      // B(query, k)
  Operand<T>* d_out_panels;  // B(query, n)
  float* lse;                // [tokens]
  float* output_dot;         // [tokens]: D
  float* dq;                 // [tokens][n + r]
  // Of the key head, summed over the group.
  float* dk;  // [tokens][n + r]
  float* dv;  // [tokens][dv]
  // Of one block of keys.
  T* keys;                        // [96][n + r]: where they are gathered
  Operand<T>* key_row_panels;     // B(k, key)
  Operand<T>* key_column_panels;  // B(key, k)
  Operand<T>* value_row_panels;   // B(n, key)
  Tile<T> tile;
};

// What one query makes of its scores: P = 2^(scale score - lse), dS = P (dP - D).
struct RowGradient {
  F32x16 scale, minus_lse, output_dot;  // the first two times log2(e)

  void operator()(F32x16 score, F32x16 d_weight, F32x16& weight, F32x16& d_score) const {
    weight = Exp2(Fma(score, scale, minus_lse));
    d_score = weight * (d_weight - output_dot);
  }
};

// One thread's work on one document and key head. Tokens are counted from the document's first.
template <class T>
class DocumentBackward {
 public:
  DocumentBackward(const AttentionBackwardArgs& args, int64_t b, int64_t g, const QueryRun& run,
                   const AttentionSizes& sizes, const BackwardMemory<T>& scratch, float* shared)
      : args_(args), b_(b), g_(g), run_(run), sizes_(sizes), scratch_(scratch), shared_(shared) {}

  void Run() {
    std::memset(scratch_.dk, 0, run_.count * sizes_.depth * sizeof(float));
    std::memset(scratch_.dv, 0, run_.count * sizes_.width * sizeof(float));
    const int64_t group = sizes_.Group();
    for (int64_t h = g_ * group; h < (g_ + 1) * group; ++h) {
      LoadHead(h);
      for (int64_t first = 0; first < run_.count; first += kKeyBlock) KeyBlock(first);
      StoreRows(args_.dq, h, scratch_.dq, sizes_.depth, args_.forward.scale);
    }
    StoreRows(args_.dv, g_, scratch_.dv, sizes_.width, 1);
    StoreRows(args_.dk, g_, scratch_.dk, sizes_.depth, args_.forward.scale);
    for (int64_t s = 0; shared_ && s < run_.count; ++s) {
      StoreScaled(scratch_.dk + s * sizes_.depth + sizes_.own_depth, sizes_.shared_depth, args_.forward.scale,
                  shared_ + (run_.begin + s) * sizes_.shared_depth);
    }
  }

 private:
  template <class E>
  E* At(const Tensor& x, int64_t s, int64_t head) const {
    return x.As<E>() + b_ * x.stride(0) + (run_.begin + s) * x.stride(1) + head * x.stride(2);
  }

  // Brings close what comes 16 tokens later: rows of a head stand apart, at distances that no hardware foresees.
  [[gnu::always_inline]] void FetchAhead(const Tensor& x, int64_t s, int64_t head) const {
    FetchRows(At<T>(x, s + 16, head), 1, x.size(3) * static_cast<int64_t>(sizeof(T)), 0);
  }

  // The first size(3) columns of `sums` [count][pitch] times `factor`, rounded, to a head of x.
  void StoreRows(const Tensor& x, int64_t head, const float* sums, int64_t pitch, float factor) const {
    for (int64_t s = 0; s < run_.count; ++s) {
      FetchAhead(x, s, head);
      StoreScaled(sums + s * pitch, x.size(3), factor, At<T>(x, s, head));
    }
  }

  void LoadHead(int64_t h) {
    for (int64_t s = 0; s < run_.count; ++s) {
      for (const Tensor* x : {&args_.forward.q, &args_.forward.out, &args_.d_out}) FetchAhead(*x, s, h);
      PackRow<T>(At<T>(args_.forward.q, s, h), sizes_.depth, scratch_.q + s * scratch_.padded_depth);
      PackRow<T>(At<T>(args_.d_out, s, h), sizes_.width, scratch_.d_out + s * scratch_.padded_width);
      scratch_.lse[s] = *At<float>(args_.forward.lse, s, h);
      scratch_.output_dot[s] = Dot(At<T>(args_.d_out, s, h), At<T>(args_.forward.out, s, h));
    }
    std::memset(scratch_.dq, 0, run_.count * sizes_.depth * sizeof(float));
    using Rows = RowsView<Operand<T>>;  // rounded already
    PackColumnPanels<Operand<T>>(run_.count, sizes_.depth, Rows{scratch_.q, scratch_.padded_depth}, scratch_.q_panels,
                                 PanelElements<T>(sizes_.queries));
    PackColumnPanels<Operand<T>>(run_.count, sizes_.width, Rows{scratch_.d_out, scratch_.padded_width},
                                 scratch_.d_out_panels, PanelElements<T>(sizes_.queries));
  }

  float Dot(const T* a, const T* b) const {
    F32x16 sum = Set(0.0f);
    ForEachVector(sizes_.width,
                  [&](int64_t i, auto lanes) { sum = Fma(LoadLanes(a + i, lanes), LoadLanes(b + i, lanes), sum); });
    return Sum(sum);
  }

  void KeyBlock(int64_t first) {
    const int64_t count = std::min(kKeyBlock, run_.count - first);
    const RowsView<T> keys = Gather(KeysFrom<T>(args_.forward, b_, g_, run_.begin + first), count, scratch_.keys);
    PackRowPanels<T>(sizes_.depth, count, keys, scratch_.key_row_panels);
    PackColumnPanels<T>(count, sizes_.depth, keys, scratch_.key_column_panels, PanelElements<T>(kKeyBlock));
    PackRowPanels<T>(sizes_.width, count, ValueRows<T>(args_.forward, b_, g_, run_.begin + first),
                     scratch_.value_row_panels);
    for (int64_t query = first; query < run_.count; query += kQueryBlock) {
      const int64_t queries = std::min(kQueryBlock, run_.count - query);
      QueryBlock({first, query, queries, std::min(count, query + queries - first)});
    }
  }

  // `keys` keys from `first` on and the queries [query, query + queries), which see some of them.
  struct Block {
    int64_t first, query, queries, keys;
    bool OnDiagonal() const { return query + 1 < first + keys; }  // the first query does not see all
  };

  // body(begin, end, keys): queries of a block that are multiplied with the same keys, and
  // body(begin, end, query): keys that are multiplied with the block's queries from `query` on.
  // Where the diagonal passes, 16 at a time: then few products are with zeros.
  template <class Body>
  static void ForEachQueryTile(const Block& block, const Body& body) {
    const int64_t step = block.OnDiagonal() ? kLanes : block.queries;
    for (int64_t begin = 0; begin < block.queries; begin += step) {
      const int64_t end = std::min(block.queries, begin + step);
      body(begin, end, std::min(block.keys, block.query + end - block.first));
    }
  }
  template <class Body>
  static void ForEachKeyTile(const Block& block, const Body& body) {
    const int64_t step = block.OnDiagonal() ? kLanes : block.keys;
    for (int64_t begin = 0; begin < block.keys; begin += step) {
      body(begin, std::min(block.keys, begin + step), std::max<int64_t>(0, block.first + begin - block.query));
    }
  }

  void QueryBlock(const Block& block) {
    const Tile<T>& tile = scratch_.tile;
    const int64_t depth_steps = PanelSteps<T>(sizes_.depth), width_steps = PanelSteps<T>(sizes_.width);
    ForEachQueryTile(block, [&](int64_t begin, int64_t end, int64_t keys) {
      const int64_t query = block.query + begin;
      Multiply<T>({end - begin, keys, depth_steps, scratch_.q + query * scratch_.padded_depth, depth_steps, 1,
                   scratch_.key_row_panels, PanelElements<T>(sizes_.depth)},
                  tile.scores + begin * kKeyBlock, kKeyBlock, false);
      Multiply<T>({end - begin, keys, width_steps, scratch_.d_out + query * scratch_.padded_width, width_steps, 1,
                   scratch_.value_row_panels, PanelElements<T>(sizes_.width)},
                  tile.d_weights + begin * kKeyBlock, kKeyBlock, false);
    });
    TileGradient(block);
    const int64_t token_pitch = PanelElements<T>(sizes_.queries);
    ForEachKeyTile(block, [&](int64_t begin, int64_t end, int64_t query) {
      const int64_t key = block.first + begin, steps = PanelSteps<T>(block.queries - query);
      const int64_t in_tile = query * kKeyBlock + begin * kStepDepth<T>;
      const int64_t in_panel = (block.query + query) * kPanelColumns;
      Multiply<T>({end - begin, sizes_.width, steps, tile.weights_by_key + in_tile, 1, kKeyBlock,
                   scratch_.d_out_panels + in_panel, token_pitch},
                  scratch_.dv + key * sizes_.width, sizes_.width, true);
      Multiply<T>({end - begin, sizes_.depth, steps, tile.d_scores_by_key + in_tile, 1, kKeyBlock,
                   scratch_.q_panels + in_panel, token_pitch},
                  scratch_.dk + key * sizes_.depth, sizes_.depth, true);
    });
    ForEachQueryTile(block, [&](int64_t begin, int64_t end, int64_t keys) {
      Multiply<T>({end - begin, sizes_.depth, PanelSteps<T>(keys), tile.by_query + begin * kKeyBlock,
                   PanelSteps<T>(kKeyBlock), 1, scratch_.key_column_panels, PanelElements<T>(kKeyBlock)},
                  scratch_.dq + (block.query + begin) * sizes_.depth, sizes_.depth, true);
    });
  }

  // From scores and dP to P and dS: of each query up to the vector that holds its own key, more than is read of it.
  void TileGradient(const Block& block) {
    const Tile<T>& tile = scratch_.tile;
    alignas(64) Bf16 weight_pair[2][kKeyBlock];
    for (int64_t i = 0; i < block.queries; ++i) {
      const int64_t visible = std::min(block.keys, block.query + i + 1 - block.first), row = i * kKeyBlock;
      const float *scores = tile.scores + row, *d_weights = tile.d_weights + row;
      Operand<T>* weights;
      if constexpr (kStepDepth<T> == 2) {
        weights = reinterpret_cast<Operand<T>*>(weight_pair[i % 2]);
      } else {
        weights = tile.weights_by_key + row;
      }
      const RowGradient gradient = {.scale = Set(args_.forward.scale * kLog2E),
                                    .minus_lse = Set(scratch_.lse[block.query + i] * -kLog2E),
                                    .output_dot = Set(scratch_.output_dot[block.query + i])};
      F32x16 weight, d_score;
      int64_t k = 0;
      for (; k + kLanes <= visible; k += kLanes) {
        gradient(Load(scores + k), Load(d_weights + k), weight, d_score);
        StoreOperands<T>(weights + k, weight);
        StoreOperands<T>(tile.by_query + row + k, d_score);
      }
      if (k < visible) {
        const int lanes = static_cast<int>(visible - k);
        gradient(Load(scores + k), Load(d_weights + k), weight, d_score);
        StoreOperands<T>(weights + k, KeepLanes(weight, lanes, Set(0.0f)));
        StoreOperands<T>(tile.by_query + row + k, KeepLanes(d_score, lanes, Set(0.0f)));
      }
      if constexpr (kStepDepth<T> == 2) {
        if (i % 2 == 1 || i + 1 == block.queries) PairRows(i, weight_pair);
      }
    }
  }

  // bf16: rows i - 1 and i (or i and zeros, if i is even) side by side, for the sums over queries.
  void PairRows(int64_t i, Bf16 (&weights)[2][kKeyBlock]) {
    const Tile<T>& tile = scratch_.tile;
    const int64_t low = i - i % 2;
    const Bf16* d_scores = tile.by_query + low * kKeyBlock;
    static constexpr Bf16 kZeros[kKeyBlock] = {};
    Interleave(weights[0], i > low ? weights[1] : kZeros, kKeyBlock, tile.weights_by_key + low * kKeyBlock);
    Interleave(d_scores, i > low ? d_scores + kKeyBlock : kZeros, kKeyBlock, tile.d_scores_by_key + low * kKeyBlock);
  }

  const AttentionBackwardArgs& args_;
  const int64_t b_, g_;
  const QueryRun run_;
  const AttentionSizes& sizes_;
  const BackwardMemory<T>& scratch_;
  float* const shared_;  // [tokens, r] of this row and key head, or null
};

template <class T>
void ZeroRows(const Tensor& x, int64_t b, int64_t begin, int64_t count, int64_t head, int64_t heads) {
  for (int64_t s = begin; s < begin + count; ++s) {
    for (int64_t h = head; h < head + heads; ++h) {
      std::memset(x.As<T>() + b * x.stride(0) + s * x.stride(1) + h * x.stride(2), 0, x.size(3) * sizeof(T));
    }
  }
}

template <class T>
void Backward(const AttentionBackwardArgs& args, float* workspace, ThreadPool& pool) {
  const AttentionSizes sizes(args.forward);
  const int64_t bytes = BackwardMemory<T>(sizes, nullptr).carver.used(), group = sizes.Group();
  pool.ParallelFor(sizes.batch * sizes.key_heads, 1, [&](int64_t begin, int64_t end, int thread) {
    const BackwardMemory<T> scratch(sizes, pool.Scratch(thread, bytes));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / sizes.key_heads, g = item % sizes.key_heads;
      float* shared = workspace ? workspace + item * sizes.queries * sizes.shared_depth : nullptr;
      ForEachRun(args.forward, b, 0, sizes.queries, [&](const QueryRun& run) {
        if (run.position >= 0) {
          CHECK_EQ(run.position, 0);  // a document's gradients need all of it
          return DocumentBackward<T>(args, b, g, run, sizes, scratch, shared).Run();
        }
        ZeroRows<T>(args.dq, b, run.begin, run.count, g * group, group);
        ZeroRows<T>(args.dk, b, run.begin, run.count, g, 1);
        ZeroRows<T>(args.dv, b, run.begin, run.count, g, 1);
        if (shared) {
          std::memset(shared + run.begin * sizes.shared_depth, 0, run.count * sizes.shared_depth * sizeof(float));
        }
      });
    }
  });
}

// dk_shared = what the key heads want, in ascending order.
template <class T>
void SumShared(const AttentionSizes& sizes, const float* per_head, Tensor out, ThreadPool& pool) {
  const int64_t head_pitch = sizes.queries * sizes.shared_depth;
  pool.ParallelFor(sizes.batch * sizes.queries, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t b = t / sizes.queries, s = t % sizes.queries;
      const float* first = per_head + b * sizes.key_heads * head_pitch + s * sizes.shared_depth;
      T* row = out.As<T>() + b * out.stride(0) + s * out.stride(1);
      ForEachVector(sizes.shared_depth, [&](int64_t i, auto lanes) {
        F32x16 sum = LoadLanes(first + i, lanes);
        for (int64_t g = 1; g < sizes.key_heads; ++g) sum = sum + LoadLanes(first + g * head_pitch + i, lanes);
        StoreLanes(row + i, sum, lanes);
      });
    }
  });
}

}  // namespace

void CpuKernels::AttentionBackward(const AttentionBackwardArgs& args, Tensor workspace) {
  CheckAttention(args.forward);
  CHECK(!args.forward.key_index && args.forward.q.size(1) == args.forward.k.size(1));
  for (const Tensor& x : {args.d_out, args.dq, args.dk, args.dv}) CHECK(x.dtype == args.forward.q.dtype && x.rank == 4);
  const int64_t bytes = AttentionBackwardWorkspace(args);
  CHECK_LE(bytes, workspace ? workspace.Bytes() : 0);
  float* per_head = bytes > 0 ? workspace.As<float>() : nullptr;
  DispatchFloat(args.forward.q.dtype, [&](auto zero) {
    using T = decltype(zero);
    Backward<T>(args, per_head, pool_);
    if (per_head) SumShared<T>(AttentionSizes(args.forward), per_head, args.dk_shared, pool_);
  });
}

// Per key head what it adds to dk_shared: f32 [B, G, S, r].
int64_t CpuKernels::AttentionBackwardWorkspace(const AttentionBackwardArgs& args) const {
  const AttentionSizes sizes(args.forward);
  return sizes.batch * sizes.key_heads * sizes.queries * sizes.shared_depth * static_cast<int64_t>(sizeof(float));
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
