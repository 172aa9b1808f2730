// SPDX-License-Identifier: Apache-2.0
// All rows of a batch against the head (head_row.h), as jobs of the thread pool. A block of tokens is one item from its
// hidden states to dx: nobody waits for others between its logits and their gradients. The gradient of the head needs
// all tokens of a row, so it comes a job later, its small items behind the large ones of the next rows' tokens: a
// thread that others have slowed down finds them taken.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/device/cpu/head_row.h"
#include "core/device/cpu/thread_pool.h"
#include "core/device/kernels.h"

namespace conclave::core::cpu::CONCLAVE_TARGET {

inline constexpr int64_t kTokenBlock = 64;   // tokens that pass over a panel while it is in cache
inline constexpr int64_t kPanelsOfItem = 4;  // of the vocabulary: while one is multiplied, the next one is fetched

// Columns of a chunk whose logits of one row take about `bytes`: a multiple of the block in which the vocabulary is
// reduced.
inline int64_t ChunkColumns(const HeadSizes& sizes, int64_t bytes) {
  const int64_t fit = bytes / (std::max<int64_t>(sizes.tokens, 1) * static_cast<int64_t>(sizeof(float)));
  const int64_t whole = std::max<int64_t>(1, fit / kVocabularyBlock) * kVocabularyBlock;
  return std::min(whole, NumPanels(sizes.vocabulary) * kPanelColumns);
}

// body(begin, columns) for each chunk of the vocabulary.
template <class Body>
void ForEachChunk(int64_t vocabulary, int64_t chunk, const Body& body) {
  for (int64_t begin = 0; begin < vocabulary; begin += chunk) body(begin, std::min(chunk, vocabulary - begin));
}

// How rows and vocabulary are cut. A wave is so many rows at a time, of which there is memory for one or two.
struct HeadPlan {
  // For gradients, with logits of about `bytes` in memory, or those of one row and 768 entries if they take more.
  static HeadPlan Training(const HeadSizes& sizes, int64_t bytes) {
    constexpr int64_t kWaveBytes = int64_t{4} << 20;  // what a third-level cache holds beside the head and its gradient
    const int64_t chunk = ChunkColumns(sizes, bytes);
    const int64_t row = std::max<int64_t>(1, sizes.tokens * LogitRows(chunk).pitch * int64_t{sizeof(float)});
    const int64_t wave = std::clamp<int64_t>(kWaveBytes / row, 1, std::max<int64_t>(1, sizes.rows));
    const bool two = wave < sizes.rows && chunk >= sizes.vocabulary && 2 * wave * row <= bytes;
    return {.chunk = chunk, .wave = wave, .slots = two ? 2 * wave : wave};
  }

  bool OneChunk(const HeadSizes& sizes) const { return chunk >= sizes.vocabulary; }
  int64_t SlotOf(int64_t row) const { return row % slots; }

  int64_t chunk;  // columns of the vocabulary
  int64_t wave;   // rows
  int64_t slots;  // rows for which there is memory
};

// Tokens of an item: fewer where that gives threads too little to share.
inline int64_t TokensOfBlock(const HeadSizes& sizes, int64_t rows, int threads) {
  int64_t block = kTokenBlock;
  while (block > 2 * kTileRows && rows * ((sizes.tokens + block - 1) / block) < 2 * threads) block /= 2;
  return block;
}

// The i-th block of a row; past the last token with a label blocks are empty.
inline TokenBlock BlockOf(const RowLabels& labels, int64_t index, int64_t tokens) {
  const int64_t count = *labels.count, first = std::min(index * tokens, count);
  return {first, std::min(first + tokens, count)};
}

// row_at(index): a loss of one row of the batch, made where it is needed, with
//   Begin()                                          finds labels()
//   RunTokens(block, begin, columns, scratch)        for a chunk of the vocabulary, up to dx
//   AddWeightGradient(begin, first, last, scratch)   columns [first, last) of the chunk that begins at `begin`
//   End()                                            sums over the row, when all its tokens have been there
template <class RowAt>
class HeadPass {
 public:
  HeadPass(const HeadSizes& sizes, const HeadPlan& plan, int64_t scratch_bytes, ThreadPool& pool, const RowAt& row_at)
      : sizes_(sizes), plan_(plan), scratch_bytes_(scratch_bytes), pool_(pool), row_at_(row_at) {}

  void Run() {
    const bool two_waves = plan_.slots > plan_.wave;
    Stage before;
    for (int64_t row = 0; row < sizes_.rows; row += plan_.wave) {
      Stage stage{.row = row, .rows = std::min(plan_.wave, sizes_.rows - row)};
      for (int64_t r = row; r < row + stage.rows; ++r) row_at_(r).Begin();
      ForEachChunk(sizes_.vocabulary, plan_.chunk, [&](int64_t begin, int64_t columns) {
        stage.begin = begin;
        stage.columns = columns;
        RunJob(stage, before);
        before = stage;
        if (!two_waves) RunJob({}, std::exchange(before, {}));
      });
      for (int64_t r = row; r < row + stage.rows; ++r) row_at_(r).End();
    }
    RunJob({}, before);
  }

 private:
  // Rows of a wave and a chunk of the vocabulary.
  struct Stage {
    int64_t row = 0, rows = 0, begin = 0, columns = 0;
  };

  // Tokens of the one stage and weight gradients of the other.
  void RunJob(const Stage& tokens, const Stage& weights) {
    constexpr int64_t kItemsPerThread = 4;
    const int64_t block = TokensOfBlock(sizes_, tokens.rows, pool_.size());
    const int64_t blocks = (sizes_.tokens + block - 1) / block, token_items = tokens.rows * blocks;
    const int64_t panels = weights.rows > 0 ? NumPanels(weights.columns) : 0;
    const int64_t group = std::clamp<int64_t>(panels / (kItemsPerThread * pool_.size()), 1, kPanelsOfItem);
    const int64_t weight_items = (panels + group - 1) / group;
    pool_.ParallelForInOrder(token_items + weight_items, 1, [&](int64_t first, int64_t last, int thread) {
      void* scratch = pool_.Scratch(thread, scratch_bytes_);
      for (int64_t item = first; item < last; ++item) {
        if (item < token_items) {
          const auto row = row_at_(tokens.row + item / blocks);
          const TokenBlock here = BlockOf(row.labels(), item % blocks, block);
          // The first one also where no token has a label: it says so in dx.
          if (here.count() > 0 || item % blocks == 0) row.RunTokens(here, tokens.begin, tokens.columns, scratch);
          continue;
        }
        const int64_t v = (item - token_items) * group * kPanelColumns;
        const int64_t end = std::min(v + group * kPanelColumns, weights.columns);
        for (int64_t r = weights.row; r < weights.row + weights.rows; ++r)
          row_at_(r).AddWeightGradient(weights.begin, v, end, scratch);
      }
    });
  }

  const HeadSizes& sizes_;
  const HeadPlan& plan_;
  const int64_t scratch_bytes_;
  ThreadPool& pool_;
  const RowAt& row_at_;
};

// What all losses of the head ask for.
inline void CheckCrossEntropy(const CrossEntropyArgs& args) {
  CHECK(args.x.rank == 2 && args.x.dtype == args.head.dtype && args.head.matrices == 1);
  CHECK_EQ(args.x.size(1), args.head.in);
  CHECK_EQ(args.labels.Elements(), args.x.size(0));
  CHECK_EQ(args.loss.Elements(), args.rows);
  CHECK(args.temperature > 0);
  CHECK_EQ(args.x.size(0) % std::max<int64_t>(args.rows, 1), 0);
  if (!args.dx) return;
  CHECK(args.dx.dtype == args.x.dtype && args.head_backward.dtype == args.x.dtype);
  CHECK_EQ(args.head_backward.out, args.head.in);
  CHECK_EQ(args.head_backward.in, args.head.out);
  CHECK_EQ(args.target.sum.Elements(), args.head.out * args.head.in);
  if (!args.token_weights) return;
  CHECK(args.token_weights.dtype == DType::kF32 && args.z_loss == 0);
  CHECK_EQ(args.token_weights.Elements(), args.labels.Elements());
}

}  // namespace conclave::core::cpu::CONCLAVE_TARGET
