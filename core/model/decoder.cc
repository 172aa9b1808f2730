// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.h"

#include <algorithm>
#include <numeric>

#include "core/base/status_macros.h"

namespace conclave::core {
namespace {
// Prompts go through the model in pieces of at most this many tokens, so that memory does not depend on their length.
constexpr int64_t kPromptPiece = 64;
}  // namespace

absl::StatusOr<std::unique_ptr<Decoder>> Decoder::Create(Model& model, int64_t sequences, int64_t capacity) {
  std::unique_ptr<Decoder> decoder(new Decoder());
  decoder->capacity_ = capacity;
  decoder->lengths_.assign(sequences, 0);
  ASSIGN_OR_RETURN(decoder->stage_,
                   DecodeStage::Create(model, model.stage(),
                                       {.slots = sequences,
                                        .positions = capacity,
                                        .largest = {DecodeStage::Shape(sequences, 1),
                                                    DecodeStage::Shape(1, std::min(kPromptPiece, capacity))}}));
  const int64_t vocabulary = model.config().vocab_size;
  ASSIGN_OR_RETURN(decoder->logits_memory_, model.device().Allocate(sequences * vocabulary * 4, "logits"));
  decoder->logits_ = Tensor(decoder->logits_memory_->data(), DType::kF32, {sequences, vocabulary});
  return decoder;
}

void Decoder::Copy(int64_t from, int64_t to) {
  stage_->Copy(from, to, lengths_[from]);
  lengths_[to] = lengths_[from];
}

void Decoder::Read(int64_t sequence, std::span<const int32_t> tokens) {
  CHECK_LE(lengths_[sequence] + static_cast<int64_t>(tokens.size()), capacity_);
  while (!tokens.empty()) {
    const std::span<const int32_t> piece = tokens.first(std::min<size_t>(tokens.size(), kPromptPiece));
    const int64_t length = static_cast<int64_t>(piece.size());
    positions_.resize(length);
    std::iota(positions_.begin(), positions_.end(), lengths_[sequence]);
    stage_->Begin({.first_slot = sequence,
                   .rows = 1,
                   .length = length,
                   .tokens = piece,
                   .positions = positions_,
                   .group_rows = {}});
    stage_->Run();
    lengths_[sequence] += length;
    tokens = tokens.subspan(length);
  }
}

void Decoder::Step(std::span<const int32_t> tokens) {
  CHECK_EQ(static_cast<int64_t>(tokens.size()), sequences());
  tokens_.assign(tokens.size(), 0);
  positions_.assign(tokens.size(), -1);
  for (size_t b = 0; b < tokens.size(); ++b) {
    if (tokens[b] < 0) continue;
    CHECK_LT(lengths_[b], capacity_);
    tokens_[b] = tokens[b];
    positions_[b] = static_cast<int32_t>(lengths_[b]++);
  }
  stage_->Begin({.first_slot = 0,
                 .rows = sequences(),
                 .length = 1,
                 .tokens = tokens_,
                 .positions = positions_,
                 .group_rows = {}});
  stage_->Logits(stage_->Run(), logits_);
}

}  // namespace conclave::core
