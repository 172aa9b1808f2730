// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {
// Prompts go through the model in pieces of at most this many tokens per sequence, so that memory does not depend on them.
constexpr int64_t kPromptPiece = 64;
}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(Model& model, int64_t sequences, int64_t capacity) {
  CHECK_LE(capacity, model.max_positions());
  std::unique_ptr<Decoder> decoder(new Decoder(model));
  decoder->sequences_ = sequences;
  decoder->capacity_ = capacity;
  decoder->lengths_.assign(sequences, 0);
  Device& device = model.device();

  Arena cache("decode cache");
  model.stage().AllocateCaches(cache, sequences, capacity);  // measures
  decoder->cache_bytes_ = cache.peak();
  ASSIGN_OR_RETURN(decoder->cache_memory_, device.Allocate(cache.peak(), "decode cache"));
  cache.Reset();
  cache.Attach(decoder->cache_memory_->data(), decoder->cache_bytes_);
  decoder->caches_ = model.stage().AllocateCaches(cache, sequences, capacity);

  const int64_t vocabulary = model.config().vocab_size;
  ASSIGN_OR_RETURN(decoder->logits_memory_, device.Allocate(sequences * vocabulary * 4, "logits"));
  decoder->logits_ = Tensor(decoder->logits_memory_->data(), DType::kF32, {sequences, vocabulary});
  ASSIGN_OR_RETURN(decoder->key_memory_, device.Allocate(sequences * kPromptPiece * 4, "cache places"));
  const PassShape step{PassMode::kForwardOnly, sequences, 1, false, true};
  const PassShape piece{PassMode::kForwardOnly, sequences, kPromptPiece, false, true};
  ASSIGN_OR_RETURN(decoder->runner_, PassRunner::Create(model, {step, piece}));
  return decoder;
}

void Decoder::Append(std::span<const std::vector<int32_t>> tokens) {
  CHECK_EQ(tokens.size(), sequences_);
  // All but the last token of each list in pieces; then the last tokens together, which give the logits.
  size_t longest = 0;
  for (const auto& list : tokens) longest = std::max(longest, list.size());
  std::vector<std::vector<int32_t>> piece(sequences_);
  for (size_t begin = 0; begin + 1 < longest; begin += kPromptPiece) {
    for (int64_t b = 0; b < sequences_; ++b) {
      const size_t last = tokens[b].empty() ? 0 : tokens[b].size() - 1;
      const size_t first = std::min(begin, last), end = std::min(begin + kPromptPiece, last);
      piece[b].assign(tokens[b].begin() + first, tokens[b].begin() + end);
    }
    Run(piece, kPromptPiece);
  }
  for (int64_t b = 0; b < sequences_; ++b) {
    piece[b].clear();
    if (!tokens[b].empty()) piece[b].push_back(tokens[b].back());
  }
  Run(piece, 1);
  model_.stage().loss_unit().Logits(runner_->lane(), runner_->saved().loss.normed, logits_);
}

void Decoder::Run(std::span<const std::vector<int32_t>> tokens, int64_t length) {
  Batch batch{.rows = sequences_, .length = length};
  batch.tokens.assign(sequences_ * length, 0);
  batch.positions.assign(sequences_ * length, -1);
  batch.labels.assign(sequences_ * length, -1);
  for (int64_t b = 0; b < sequences_; ++b) {
    CHECK_LE(lengths_[b] + static_cast<int64_t>(tokens[b].size()), capacity_);
    for (size_t s = 0; s < tokens[b].size(); ++s) {
      batch.tokens[b * length + s] = tokens[b][s];
      batch.positions[b * length + s] = static_cast<int32_t>(lengths_[b]++);
    }
  }
  runner_->Begin(batch, 0, {PassMode::kForwardOnly, sequences_, length, false, true});
  StagePass& pass = runner_->pass();
  pass.key_index = Tensor(key_memory_->data(), DType::kI32, {sequences_, length});
  model_.device().CopyToDevice(model_.stream(), batch.positions.data(), pass.key_index);
  model_.stage().ForwardBody(runner_->lane(), pass, {}, caches_, runner_->saved());
}

}  // namespace conclave::core
