// SPDX-License-Identifier: Apache-2.0
// Token by token decoding of a batch of sequences by a whole model: a slot (decode_stage.h) for each sequence.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/decode_stage.h"
#include "core/model/model.h"

namespace conclave::core {

class Decoder {
 public:
  // Caches for `sequences` sequences of at most `capacity` tokens (capacity <= model.max_positions()).
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(Model& model, int64_t sequences, int64_t capacity);

  int64_t sequences() const { return stage_->slots(); }
  int64_t capacity() const { return capacity_; }
  int64_t length(int64_t sequence) const { return lengths_[sequence]; }
  int64_t cache_bytes() const { return stage_->cache_bytes(); }

  // Forgets a sequence.
  void Clear(int64_t sequence) { lengths_[sequence] = 0; }
  // Makes sequence `to` one that has read what `from` has.
  void Copy(int64_t from, int64_t to);

  // Appends tokens to one sequence, without logits: a prompt up to its last token. CHECKs the capacity.
  void Read(int64_t sequence, std::span<const int32_t> tokens);
  // Appends tokens[b] to each sequence b (-1 leaves it alone) and computes the logits after it. CHECKs the capacity.
  void Step(std::span<const int32_t> tokens);
  // f32 [sequences, V] after the last Step; rows of sequences that were left alone are unspecified.
  Tensor logits() const { return logits_; }

 private:
  Decoder() = default;

  int64_t capacity_ = 0;
  std::vector<int64_t> lengths_;
  std::vector<int32_t> tokens_, positions_;  // of the call, kept so that a step allocates nothing
  std::unique_ptr<DecodeStage> stage_;
  std::unique_ptr<DeviceBuffer> logits_memory_;
  Tensor logits_;
};

}  // namespace conclave::core
