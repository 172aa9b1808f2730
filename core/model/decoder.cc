// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {
// Prompts go through the model in pieces of at most this many tokens, so that memory does not depend on their length.
constexpr int64_t kPromptPiece = 64;

PassShape DecodeShape(int64_t rows, int64_t length) { return {PassMode::kForwardOnly, rows, length, false, true}; }

// Padding alone.
void ResetTo(const PassShape& shape, Batch& batch) {
  batch.rows = shape.rows;
  batch.length = shape.length;
  batch.tokens.assign(shape.rows * shape.length, 0);
  batch.positions.assign(shape.rows * shape.length, -1);
  batch.labels.assign(shape.rows * shape.length, -1);
}

// The part of each cache that belongs to one sequence.
std::vector<AttentionCache> CachesOf(int64_t sequence, std::span<const AttentionCache> caches) {
  std::vector<AttentionCache> out;
  for (const AttentionCache& cache : caches) {
    out.push_back({.keys_values = cache.keys_values.Slice(0, sequence, 1),
                   .shared_key = cache.shared_key ? cache.shared_key.Slice(0, sequence, 1) : Tensor()});
  }
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(Model& model, int64_t sequences, int64_t capacity) {
  CHECK_LE(capacity, model.max_positions());
  std::unique_ptr<Decoder> decoder(new Decoder(model));
  decoder->sequences_ = sequences;
  decoder->capacity_ = capacity;
  decoder->lengths_.assign(sequences, 0);
  Device& device = model.device();

  Arena one("decode cache"), cache("decode cache");
  model.stage().AllocateCaches(one, 1, capacity);  // measures
  const std::string label = absl::StrFormat("decode cache of %d sequences x %d tokens", sequences, capacity);
  if (one.peak() > std::numeric_limits<int64_t>::max() / sequences) {
    return absl::ResourceExhaustedError(absl::StrFormat("%s: more than any memory holds", label));
  }
  model.stage().AllocateCaches(cache, sequences, capacity);
  decoder->cache_bytes_ = cache.peak();
  ASSIGN_OR_RETURN(decoder->cache_memory_, device.Allocate(cache.peak(), label));
  cache.Reset();
  cache.Attach(decoder->cache_memory_->data(), decoder->cache_bytes_);
  decoder->caches_ = model.stage().AllocateCaches(cache, sequences, capacity);

  const int64_t vocabulary = model.config().vocab_size;
  ASSIGN_OR_RETURN(decoder->logits_memory_, device.Allocate(sequences * vocabulary * 4, "logits"));
  decoder->logits_ = Tensor(decoder->logits_memory_->data(), DType::kF32, {sequences, vocabulary});
  ASSIGN_OR_RETURN(decoder->runner_,
                   PassRunner::Create(model, {DecodeShape(sequences, 1), DecodeShape(1, kPromptPiece)}));
  return decoder;
}

void Decoder::Copy(int64_t from, int64_t to) {
  const std::vector<AttentionCache> source = CachesOf(from, caches_), target = CachesOf(to, caches_);
  const int64_t length = lengths_[to] = lengths_[from];
  const auto copy = [&](const Tensor& x, const Tensor& y) {
    model_.kernels().Cast(x.Slice(1, 0, length).MergeFirst(), y.Slice(1, 0, length).MergeFirst());
  };
  for (size_t block = 0; length > 0 && block < caches_.size(); ++block) {
    copy(source[block].keys_values, target[block].keys_values);
    if (source[block].shared_key) copy(source[block].shared_key, target[block].shared_key);
  }
}

void Decoder::Read(int64_t sequence, std::span<const int32_t> tokens) {
  CHECK_LE(lengths_[sequence] + static_cast<int64_t>(tokens.size()), capacity_);
  const PassShape shape = DecodeShape(1, kPromptPiece);
  const std::vector<AttentionCache> caches = CachesOf(sequence, caches_);
  while (!tokens.empty()) {
    const std::span<const int32_t> piece = tokens.first(std::min<size_t>(tokens.size(), kPromptPiece));
    ResetTo(shape, batch_);
    std::copy(piece.begin(), piece.end(), batch_.tokens.begin());
    std::iota(batch_.positions.begin(), batch_.positions.begin() + piece.size(), lengths_[sequence]);
    lengths_[sequence] += static_cast<int64_t>(piece.size());
    Run(shape, caches);
    tokens = tokens.subspan(piece.size());
  }
}

void Decoder::Step(std::span<const int32_t> tokens) {
  CHECK_EQ(static_cast<int64_t>(tokens.size()), sequences_);
  const PassShape shape = DecodeShape(sequences_, 1);
  ResetTo(shape, batch_);
  for (int64_t b = 0; b < sequences_; ++b) {
    if (tokens[b] < 0) continue;
    CHECK_LT(lengths_[b], capacity_);
    batch_.tokens[b] = tokens[b];
    batch_.positions[b] = static_cast<int32_t>(lengths_[b]++);
  }
  Run(shape, caches_);
  model_.stage().loss_unit().Logits(runner_->lane(), runner_->saved().loss.normed, logits_);
}

void Decoder::Run(const PassShape& shape, std::span<const AttentionCache> caches) {
  runner_->Begin(batch_, 0, shape);
  StagePass& pass = runner_->pass();
  pass.key_index = pass.main().positions;
  model_.stage().ForwardBody(runner_->lane(), pass, {}, caches, runner_->saved());
}

}  // namespace conclave::core
