// SPDX-License-Identifier: Apache-2.0
// Token by token decoding of a batch of sequences with cached keys and values. The cache holds what the trainer
// computes (expanded keys and values), and kernels treat every row alone, so logits are bit-equal to a full forward
// pass.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/model.h"

namespace conclave::core {

class Decoder {
 public:
  // Caches for `sequences` sequences of at most `capacity` tokens (capacity <= model.max_positions()).
  static absl::StatusOr<std::unique_ptr<Decoder>> Create(Model& model, int64_t sequences, int64_t capacity);

  int64_t sequences() const { return sequences_; }
  int64_t capacity() const { return capacity_; }
  int64_t length(int64_t sequence) const { return lengths_[sequence]; }
  int64_t cache_bytes() const { return cache_bytes_; }

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
  explicit Decoder(Model& model) : model_(model) {}
  // Runs batch_, whose rows are those of `caches`.
  void Run(const PassShape& shape, std::span<const AttentionCache> caches);

  Model& model_;
  int64_t sequences_ = 0, capacity_ = 0, cache_bytes_ = 0;
  std::vector<int64_t> lengths_;
  std::unique_ptr<DeviceBuffer> cache_memory_, logits_memory_;
  std::vector<AttentionCache> caches_;  // one per block
  Batch batch_;                         // of the call, kept so that a step allocates nothing
  Tensor logits_;
  std::unique_ptr<PassRunner> runner_;
};

}  // namespace conclave::core
