// SPDX-License-Identifier: Apache-2.0
// One stage's side of decoding: caches of keys and values for a number of slots, each holding one sequence, and the
// memory of one pass. A call appends tokens to consecutive slots; which sequence lies where, and what is drawn, is the
// caller's (decoder.h, rl/generator.h). Kernels treat every row alone, so results do not depend on what else is in a
// call; and where caches hold what the trainer computes (CacheKind::kExpanded), they are bit-equal to a full forward
// pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/model.h"

namespace conclave::core {

// Tokens that a call appends: row r goes to slot first_slot + r.
struct DecodeRows {
  int64_t first_slot = 0;
  int64_t rows = 0, length = 1;         // rows may be 0 where other ranks have some
  std::span<const int32_t> tokens;      // [rows, length]
  std::span<const int32_t> positions;   // [rows, length]: index in its sequence, -1 = padding
  std::span<const int64_t> group_rows;  // StagePass::group_rows; empty: this rank alone
};

struct DecodeCapacity {
  int64_t slots = 1;
  int64_t positions = 1;           // per slot
  std::vector<PassShape> largest;  // calls are no larger than one of these; group_rows as far as ranks differ
};

class DecodeStage {
 public:
  // `stage` is one of the model's.
  static absl::StatusOr<std::unique_ptr<DecodeStage>> Create(Model& model, const Stage& stage, DecodeCapacity capacity);
  static PassShape Shape(int64_t rows, int64_t length) { return {PassMode::kForwardOnly, rows, length, false, true}; }

  int64_t slots() const { return slots_; }
  int64_t cache_bytes() const { return cache_bytes_; }

  // Makes the first `length` positions of slot `to` those of slot `from`.
  void Copy(int64_t from, int64_t to, int64_t length);
  // Begins a call. Where the stage has no embedding, the tensor returned, [rows x length, D], takes its input before
  // Run.
  Tensor Begin(const DecodeRows& rows);
  // Runs the blocks -> output [rows x length, D], of the last stage after the final norm; until the next Begin.
  Tensor Run();
  // hidden [n, D] as Run of the last stage gave it -> logits f32 [n, V].
  void Logits(Tensor hidden, Tensor logits) { stage_.loss_unit().Logits(lane_, hidden, logits); }

 private:
  DecodeStage(Model& model, const Stage& stage)
      : model_(model),
        stage_(stage),
        scratch_("scratch"),
        lane_{model.kernels(), scratch_, model.device(), model.stream()} {}
  absl::Status Allocate(const DecodeCapacity& capacity);
  void SliceCaches(int64_t first, int64_t count);

  Model& model_;
  const Stage& stage_;
  int64_t slots_ = 0, cache_bytes_ = 0;
  std::unique_ptr<DeviceBuffer> cache_memory_, pass_memory_;
  std::vector<AttentionCache> caches_;       // by block
  std::vector<AttentionCache> call_caches_;  // those of the slots of a call, kept so that a call allocates nothing
  PassShape shape_;
  Batch batch_;
  Arena scratch_;
  Lane lane_;
  StagePass pass_;
  StageSaved saved_;
  TokenFeeder feeder_;
};

}  // namespace conclave::core
