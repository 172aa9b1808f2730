// SPDX-License-Identifier: Apache-2.0
#include "core/model/decode_stage.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"

namespace conclave::core {

absl::StatusOr<std::unique_ptr<DecodeStage>> DecodeStage::Create(Model& model, const Stage& stage,
                                                                 DecodeCapacity capacity) {
  std::unique_ptr<DecodeStage> out(new DecodeStage(model, stage));
  RETURN_IF_ERROR(out->Allocate(capacity));
  return out;
}

absl::Status DecodeStage::Allocate(const DecodeCapacity& capacity) {
  CHECK_LE(capacity.positions, model_.max_positions());
  slots_ = capacity.slots;
  Arena one("decode cache"), cache("decode cache");
  stage_.AllocateCaches(one, 1, capacity.positions);  // measures
  const std::string label = absl::StrFormat("decode cache of %d sequences x %d tokens", slots_, capacity.positions);
  if (one.peak() > std::numeric_limits<int64_t>::max() / std::max<int64_t>(slots_, 1)) {
    return absl::ResourceExhaustedError(absl::StrFormat("%s: more than any memory holds", label));
  }
  stage_.AllocateCaches(cache, slots_, capacity.positions);
  cache_bytes_ = cache.peak();
  ASSIGN_OR_RETURN(cache_memory_, model_.device().Allocate(std::max<int64_t>(cache_bytes_, 1), label));
  cache.Reset();
  cache.Attach(cache_memory_->data(), cache_bytes_);
  caches_ = stage_.AllocateCaches(cache, slots_, capacity.positions);

  PassMemory plan;
  for (const PassShape& shape : capacity.largest) {
    plan.CoverAlso(PlanPass(stage_, model_.device(), model_.stream(), model_.kernels(), shape));
  }
  ASSIGN_OR_RETURN(pass_memory_, model_.device().Allocate(std::max<int64_t>(plan.Total(), 1), "activations"));
  char* memory = static_cast<char*>(pass_memory_->data());
  for (auto [arena, bytes] :
       {std::pair{&pass_.until_input_grad, plan.until_input_grad},
        std::pair{&pass_.until_weight_grad, plan.until_weight_grad},
        std::pair{&pass_.until_block_end, plan.until_block_end}, std::pair{&scratch_, plan.scratch}}) {
    arena->Attach(memory, bytes);
    memory += bytes;
  }
  return absl::OkStatus();
}

void DecodeStage::SliceCaches(int64_t first, int64_t count) {
  call_caches_.clear();
  for (const AttentionCache& cache : caches_) {
    call_caches_.push_back({.keys_values = cache.keys_values.Slice(0, first, count),
                            .shared_key = cache.shared_key ? cache.shared_key.Slice(0, first, count) : Tensor()});
  }
}

void DecodeStage::Copy(int64_t from, int64_t to, int64_t length) {
  if (length == 0 || from == to) return;
  const auto copy = [&](const Tensor& cache) {
    const auto slot = [&](int64_t s) { return cache.Slice(0, s, 1).Slice(1, 0, length).MergeFirst(); };
    model_.kernels().Cast(slot(from), slot(to));
  };
  for (const AttentionCache& cache : caches_) {
    copy(cache.keys_values);
    if (cache.shared_key) copy(cache.shared_key);
  }
}

Tensor DecodeStage::Begin(const DecodeRows& rows) {
  const int64_t tokens = rows.rows * rows.length;
  CHECK_EQ(static_cast<int64_t>(rows.tokens.size()), tokens);
  CHECK_EQ(static_cast<int64_t>(rows.positions.size()), tokens);
  batch_.rows = rows.rows;
  batch_.length = rows.length;
  batch_.tokens.assign(rows.tokens.begin(), rows.tokens.end());
  batch_.positions.assign(rows.positions.begin(), rows.positions.end());
  batch_.labels.assign(tokens, -1);
  shape_.mode = PassMode::kForwardOnly;
  shape_.rows = rows.rows;
  shape_.length = rows.length;
  shape_.predict_ahead = false;
  shape_.decoding = true;
  shape_.group_rows.assign(rows.group_rows.begin(), rows.group_rows.end());
  pass_.Reset();
  AllocateTokens(pass_, shape_, 0);
  feeder_.Fill(model_.device(), model_.stream(), batch_, 0, pass_);
  pass_.key_index = pass_.main().positions;
  SliceCaches(rows.first_slot, rows.rows);
  return stage_.part().embedding ? Tensor() : stage_.AllocateInput(pass_, saved_);
}

Tensor DecodeStage::Run() {
  stage_.ForwardBody(lane_, pass_, {}, call_caches_, saved_);
  return stage_.part().loss ? saved_.loss.normed : stage_.Output(saved_);
}

}  // namespace conclave::core
