// SPDX-License-Identifier: Apache-2.0
// Weight gradients as exact sums: dW[n, k] += round over segments (sum over the segment's tokens of dy[t, n] x[t, k]).
// The same tile kernel as everywhere, with tokens as its k, on tiles of a panel of n by a panel of k. When the f32
// chain of a segment ends, a tile is rounded and added to an int64 tile (18 KiB). The gradient itself, as large as
// twice the weights, is touched once per call and fetched ahead. Into an f32 target all tokens of a matrix are one
// chain.
#include <algorithm>
#include <span>
#include <type_traits>

#include "core/device/cpu/cpu_kernels.h"
#include "core/device/cpu/gemm_tile.h"
#include "core/device/cpu/gradient_sum.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {
namespace {

// An item is a block of dW, a few panels of n by a few panels of k. Its tokens are packed in chunks, which the tiles
// walk in pieces, for which a panel takes 12 KiB of the first-level cache (gemm_tile.h says why no more). Packing costs
// about 8 cycles per token and panel from a cache close by and several times that from memory, the product of two
// panels 72 (AVX-512) or 144 (AVX2): large items pack less, and the tiles of a chunk fetch the columns of the next one.
// For a second-level cache of 512 KiB: 12 tiles take 216 KiB of int64 sums, 4 packed panels 96 KiB, what is fetched
// ahead 168 KiB. Processors with AVX-512 have 1 to 2 MiB: 36 tiles take 648, 7 panels 168, what is ahead 288.
#if defined(__AVX512F__)
constexpr int64_t kMaxPanelsOfN = 6, kMaxPanelsOfK = 6;
#else
constexpr int64_t kMaxPanelsOfN = 4, kMaxPanelsOfK = 3;
#endif
// So many are not cut; more are cut in two at least, where large items would only leave threads less to share.
constexpr int64_t kFewPanelsOfN = 4, kFewPanelsOfK = 3;
constexpr int64_t kChunkSteps = 128, kPieceSteps = 64;
constexpr int64_t kItemsPerThread = 3;
constexpr int64_t kTileElements = kPanelColumns * kPanelColumns;

// Tokens of one segment within one chunk, at most kPieceSteps.
struct Piece {
  int64_t token, tokens;
  int64_t step, steps;  // where the packed panels have them
  bool starts, ends;    // the segment's chain
};

struct TokenRange {
  int64_t first, count;
};

// Cuts the tokens of a matrix into chunks of pieces. bf16 pairs restart with each segment, and a segment is cut where
// its chain may be interrupted.
class Chunks {
 public:
  Chunks(const int32_t* offsets, int64_t first_segment, int64_t last_segment)
      : offsets_(offsets), segment_(first_segment), last_(last_segment), token_(offsets[first_segment]) {}

  // The next pieces; their number is 0 at the end. `pieces` holds kChunkSteps.
  template <class T>
  int64_t Next(Piece* pieces) {
    int64_t count = 0, step = 0;
    while (segment_ < last_ && step < kChunkSteps) {
      const int64_t left = offsets_[segment_ + 1] - token_, free = std::min(kChunkSteps - step, kPieceSteps);
      int64_t tokens = left;
      if (PanelSteps<T>(left) > free) {
        tokens = free / kChainSteps<Operand<T>> * kChainSteps<Operand<T>> * kStepDepth<T>;
        if (tokens == 0) break;
      }
      if (tokens > 0) {
        pieces[count++] = {token_, tokens, step, PanelSteps<T>(tokens), token_ == offsets_[segment_], tokens == left};
        step += PanelSteps<T>(tokens);
        token_ += tokens;
      }
      if (tokens == left) ++segment_;
    }
    return count;
  }
  int64_t CountChains() const {  // segments with tokens
    int64_t count = 0;
    for (int64_t s = segment_; s < last_; ++s) count += offsets_[s + 1] > offsets_[s];
    return count;
  }
  bool AtEnd() const { return token_ == offsets_[last_]; }
  // About the tokens of the next chunk.
  template <class T>
  TokenRange NextTokens() const {
    return {token_, std::min<int64_t>(offsets_[last_] - token_, kChunkSteps * kStepDepth<T>)};
  }

 private:
  const int32_t* offsets_;
  int64_t segment_, last_, token_;
};

// body(rows, piece) for the pieces, with their tokens' columns from panel `panel` on.
template <class Body>
void ForEachPiece(const Tensor& source, int64_t panel, std::span<const Piece> pieces, const Body& body) {
  DispatchFloat(source.dtype, [&](auto zero) {
    const auto* first = source.As<decltype(zero)>() + panel * kPanelColumns;
    for (const Piece& piece : pieces) body(first + piece.token * source.stride(0), piece);
  });
}

// to += from.
void AddIntegers(int64_t rows, int columns, const int64_t* from, int64_t* to, int64_t stride) {
  using Integers = uint64_t __attribute__((vector_size(64), aligned(8), may_alias));
  for (int64_t m = 0; m < rows; ++m, from += kPanelColumns) {
    int64_t* out = to + m * stride;
    int n = 0;
    for (; n + 8 <= columns; n += 8) {
      Integers* sum = reinterpret_cast<Integers*>(out + n);
      *sum = *sum + *reinterpret_cast<const Integers*>(from + n);
    }
    for (; n < columns; ++n)
      out[n] = static_cast<int64_t>(static_cast<uint64_t>(out[n]) + static_cast<uint64_t>(from[n]));
  }
}

// The part of a gradient that one item computes: panels of n by panels of k of one matrix.
struct Item {
  int64_t matrix, first_n, panels_n, first_k, panels_k;
};

// Packed panels of a chunk stand a line farther apart than they are long: the same step of all is written at once, and
// must not fall into the same cache sets.
template <class T>
constexpr int64_t PanelPitch() {
  return PanelElements<T>(kChunkSteps * kStepDepth<T>) + 64 / static_cast<int64_t>(sizeof(Operand<T>));
}

// Scratch of a thread.
template <class T>
struct WorkSpace {
  Piece pieces[kChunkSteps];
  alignas(128) Operand<T> x[kMaxPanelsOfK][PanelPitch<T>()];
  alignas(128) Operand<T> dy[PanelElements<T>(kChunkSteps * kStepDepth<T>)];
  struct Tile {
    alignas(128) int64_t sum[kTileElements];  // not used if there is one chain only
    float c[kTileElements];                   // f32 chains of a segment that goes on in the next piece
  };
  Tile tiles[kMaxPanelsOfN][kMaxPanelsOfK];
  alignas(128) float c[kTileElements];  // those of a segment that is one piece: this memory is always close
};

template <class T, class Sum>
class ItemSum {
 public:
  // next: the item that this thread will probably compute after this one.
  ItemSum(const WeightGradArgs& args, const Item& item, const Item& next, WorkSpace<T>& space)
      : args_(args), item_(item), next_(next), space_(space) {}

  void Run() {
    const int64_t segments = (args_.segment_offsets.Elements() - 1) / args_.matrices;
    const int32_t* const offsets = args_.segment_offsets.As<int32_t>() + item_.matrix * segments;
    const int32_t ends[] = {offsets[0], offsets[segments]};
    Chunks chunks = std::is_same_v<Sum, float> ? Chunks(ends, 0, 1) : Chunks(offsets, 0, segments);
    const bool direct = chunks.CountChains() == 1;
    for (bool first = true; !chunks.AtEnd(); first = false) {
      const int64_t count = chunks.Next<T>(space_.pieces);
      AddChunk({space_.pieces, static_cast<size_t>(count)}, {first, chunks.AtEnd(), direct, chunks.NextTokens<T>()});
    }
  }

 private:
  struct Chunk {
    bool first, last;  // of the matrix
    bool direct;       // one chain only: its sums need no tile
    TokenRange next;   // tokens of the next chunk
  };
  void AddChunk(std::span<const Piece> pieces, const Chunk& chunk) {
    ForEachPiece(args_.x, item_.first_k, pieces, [&](const auto* rows, const Piece& piece) {
      PackPanelsFromColumns<T>(piece.tokens, ColumnsOf(args_.x, item_.first_k, item_.panels_k), rows, args_.x.stride(0),
                               space_.x[0] + piece.step * kPanelColumns * kStepDepth<T>, PanelPitch<T>());
    });
    Ahead ahead = WhatIsNext(chunk);
    for (int64_t n = 0; n < item_.panels_n; ++n) {
      ForEachPiece(args_.dy, item_.first_n + n, pieces, [&](const auto* rows, const Piece& piece) {
        PackLeft<T>(piece.tokens, ColumnsOfPanel(args_.dy.size(1), item_.first_n + n), rows, args_.dy.stride(0),
                    kChunkSteps, LeftAt<T>(space_.dy, piece.step));
      });
      for (int64_t k = 0; k < item_.panels_k; ++k) AddTileOfChunk(pieces, chunk, n, k, ahead);
    }
  }

  // Sums and the distance of their rows.
  struct Sums {
    Sum* first;
    int64_t stride;
  };
  Sums Target(int64_t n, int64_t k) const {
    const Tensor& target = args_.target.sum;
    const int64_t matrix = target.rank == 3 ? item_.matrix * target.stride(0) : 0,
                  stride = target.stride(target.rank - 2);
    const int64_t row = (item_.first_n + n) * kPanelColumns, column = (item_.first_k + k) * kPanelColumns;
    return {target.As<Sum>() + matrix + row * stride + column, stride};
  }

  // What to bring close during a chunk, in this order: the target if the chunk is the last one, then what the next one
  // reads, of this item or of the one that follows.
  Ahead WhatIsNext(const Chunk& chunk) const {
    const Item& reader = chunk.last ? next_ : item_;
    TokenRange tokens = chunk.next;
    Ahead ahead;
    if (chunk.last) {
      const int64_t segments = (args_.segment_offsets.Elements() - 1) / args_.matrices;
      const int32_t* const offsets = args_.segment_offsets.As<int32_t>() + next_.matrix * segments;
      tokens = Chunks(offsets, 0, segments).NextTokens<T>();
      constexpr int64_t kBytes = sizeof(Sum);
      const Sums target = Target(0, 0);
      ahead.Add(target.first, ColumnsOf(args_.x, item_.first_k, item_.panels_k) * kBytes,
                ColumnsOf(args_.dy, item_.first_n, item_.panels_n), target.stride * kBytes);
    }
    const auto add = [&](const Tensor& source, int64_t first, int64_t panels) {
      const int64_t size = SizeOf(source.dtype), stride = source.stride(0) * size;
      ahead.Add(source.As<char>() + tokens.first * stride + first * kPanelColumns * size,
                ColumnsOf(source, first, panels) * size, tokens.count, stride);
    };
    add(args_.x, reader.first_k, reader.panels_k);
    add(args_.dy, reader.first_n, reader.panels_n);
    return ahead;
  }
  static int64_t ColumnsOf(const Tensor& source, int64_t first, int64_t panels) {
    return std::min(panels * kPanelColumns, source.size(1) - first * kPanelColumns);
  }

  // Panel n by panel k of the item.
  void AddTileOfChunk(std::span<const Piece> pieces, const Chunk& chunk, int64_t n, int64_t k, Ahead& ahead) {
    constexpr int64_t kStep = kPanelColumns * kStepDepth<T>;
    const int rows = ColumnsOfPanel(args_.dy.size(1), item_.first_n + n);
    const int columns = ColumnsOfPanel(args_.x.size(1), item_.first_k + k);
    const Sums target = Target(n, k);
    typename WorkSpace<T>::Tile& tile = space_.tiles[n][k];
    if (chunk.first && !chunk.direct) std::fill_n(tile.sum, kTileElements, 0);
    bool beyond = false;
    for (const Piece& piece : pieces) {
      float* const c = piece.starts && piece.ends ? space_.c : tile.c;
      GemmTile(rows, columns, piece.steps, LeftAt<T>(space_.dy, piece.step), LeftRowStride<T>(kChunkSteps),
               kLeftStepStride<T>, space_.x[k] + piece.step * kStep, c, kPanelColumns, !piece.starts, ahead);
      if (!piece.ends) continue;
      const float limit = args_.target.limit;
      beyond |= chunk.direct ? AddTileToSum(rows, columns, c, kPanelColumns, target.first, target.stride, limit)
                             : AddTileToSum(rows, columns, c, kPanelColumns, tile.sum, kPanelColumns, limit);
    }
    if (beyond) SetFlag(args_.target.flag.As<int32_t>());
    if constexpr (std::is_same_v<Sum, int64_t>) {
      if (chunk.last && !chunk.direct) AddIntegers(rows, columns, tile.sum, target.first, target.stride);
    }
  }

  const WeightGradArgs& args_;
  const Item item_, next_;
  WorkSpace<T>& space_;
};

// How a matrix is cut into items: all of its panels of n and k, in groups.
struct Grid {
  int64_t panels_n, panels_k, group_n, group_k, groups_n, groups_k;

  Item At(int64_t index) const {
    const int64_t k = index % groups_k * group_k, n = index / groups_k % groups_n * group_n;
    return {index / (groups_k * groups_n), n, group_n < panels_n - n ? group_n : panels_n - n, k,
            group_k < panels_k - k ? group_k : panels_k - k};
  }
};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The largest items that still give each thread some, also when one matrix has most of the tokens.
Grid MakeGrid(const WeightGradArgs& args, int threads) {
  const int32_t* offsets = args.segment_offsets.As<int32_t>();
  const int64_t segments = (args.segment_offsets.Elements() - 1) / args.matrices;
  const int64_t total = offsets[args.matrices * segments] - offsets[0];
  int64_t most = 0;
  for (int64_t e = 0; e < args.matrices; ++e) {
    const int64_t tokens = offsets[(e + 1) * segments] - offsets[e * segments];
    most = tokens > most ? tokens : most;
  }
  const int64_t wanted = total > 0 ? CeilDivide(most * kItemsPerThread * threads, total) : 1;  // of the largest matrix
  Grid grid{};
  grid.panels_n = NumPanels(args.dy.size(1));
  grid.panels_k = NumPanels(args.x.size(1));
  const auto group = [](int64_t panels, int64_t few, int64_t most) {
    return panels <= few ? panels : std::min(CeilDivide(panels, 2), CeilDivide(panels, CeilDivide(panels, most)));
  };
  grid.group_k = group(grid.panels_k, kFewPanelsOfK, kMaxPanelsOfK);
  grid.groups_k = CeilDivide(grid.panels_k, grid.group_k);
  grid.group_n = group(grid.panels_n, kFewPanelsOfN, kMaxPanelsOfN);
  while (grid.group_n > 1 && CeilDivide(grid.panels_n, grid.group_n) * grid.groups_k < wanted) --grid.group_n;
  grid.groups_n = CeilDivide(grid.panels_n, grid.group_n);
  return grid;
}

void CheckTarget(const GradientTarget& target) { CHECK(target.flag.dtype == DType::kI32 && target.flag); }

void CheckWeightGrad(const WeightGradArgs& args) {
  const Tensor& sum = args.target.sum;
  CheckTarget(args.target);
  CHECK(args.dy.rank == 2 && args.x.rank == 2 && (sum.rank == 3 || (sum.rank == 2 && args.matrices == 1)));
  CHECK_EQ(args.dy.size(0), args.x.size(0));
  CHECK_EQ(sum.size(sum.rank - 2), args.dy.size(1));
  CHECK_EQ(sum.size(sum.rank - 1), args.x.size(1));
  if (sum.rank == 3) CHECK_EQ(sum.size(0), args.matrices);
  CHECK(args.segment_offsets.dtype == DType::kI32);
  const int64_t segments = args.segment_offsets.Elements() - 1;
  CHECK_EQ(segments % args.matrices, 0);
  CHECK_LE(args.segment_offsets.As<int32_t>()[segments], args.x.size(0));
}

}  // namespace

void CpuKernels::WeightGrad(const WeightGradArgs& args) {
  CheckWeightGrad(args);
  if (args.target.sum.Elements() == 0) return;
  const Grid grid = MakeGrid(args, pool_.size());
  const int64_t items = args.matrices * grid.groups_n * grid.groups_k;
  const auto run = [&]<class T, class Sum>(T, Sum) {
    pool_.ParallelFor(items, 1, [&](int64_t begin, int64_t end, int thread) {
      WorkSpace<T>& space = *static_cast<WorkSpace<T>*>(pool_.Scratch(thread, sizeof(WorkSpace<T>)));
      for (int64_t item = begin; item < end; ++item)
        ItemSum<T, Sum>(args, grid.At(item), grid.At(std::min(item + 1, items - 1)), space).Run();
    });
  };
  DispatchSum(args.target.sum.dtype,
              [&](auto sum) { DispatchFloat(args.product_dtype, [&](auto zero) { run(zero, sum); }); });
}

void CpuKernels::BiasGrad(Tensor dy, Tensor row_offsets, const GradientTarget& target) {
  CheckTarget(target);
  CHECK(dy.rank == 2 && row_offsets.dtype == DType::kI32);
  CHECK_EQ(target.sum.Elements(), dy.size(1));
  const int32_t* offsets = row_offsets.As<int32_t>();
  const int64_t rows = row_offsets.Elements() - 1, columns = dy.size(1);
  const auto run = [&]<class T, class Sum>(T, Sum) {
    const T* first = dy.As<T>();
    pool_.ParallelFor(CeilDivide(columns, kLanes), 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t n = begin * kLanes; n < end * kLanes; n += kLanes) {
        const int lanes = static_cast<int>(columns - n < kLanes ? columns - n : kLanes);
        for (int64_t r = 0; r < rows; ++r) {
          F32x16 sum = Set(0.0f);
          for (int64_t t = offsets[r]; t < offsets[r + 1]; ++t)
            sum = sum + LoadPart(first + t * dy.stride(0) + n, lanes);
          if (AnyBeyond(sum, target.limit)) SetFlag(target.flag.As<int32_t>());
          AddPartToSum(target.sum.As<Sum>() + n, sum, lanes);
        }
      }
    });
  };
  DispatchSum(target.sum.dtype, [&](auto sum) { DispatchFloat(dy.dtype, [&](auto zero) { run(zero, sum); }); });
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
