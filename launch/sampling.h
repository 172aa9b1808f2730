// SPDX-License-Identifier: Apache-2.0
// One sequence that grows: a prompt is read into the cache, tokens are drawn and appended until an end token. What a
// prompt shares with the cache is not computed again, so the next turn of a conversation costs its new tokens alone.
// Draws are keyed by (seed, sample, position): they do not depend on how the tokens before came into the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/decoder.h"
#include "core/model/model.h"

namespace conclave::launch {

struct SamplingOptions {
  double temperature = 1, top_p = 1, min_p = 0;
  int64_t top_k = 0;
  int64_t seed = 0, sample = 0;
};

enum class Ending { kEndToken, kMaxTokens, kStopped };

class Sampling {
 public:
  // For at most `capacity` tokens, prompts and answers together.
  static absl::StatusOr<Sampling> Create(core::Model& model, const SamplingOptions& options, int64_t capacity,
                                         std::vector<int32_t> end_tokens);

  int64_t capacity() const { return decoder_->capacity(); }

  // Draws up to `max_tokens` tokens after `prompt` and hands each to `take`, which says whether to go on; never an end
  // token. The prompt is not empty and leaves room for the answer.
  Ending Generate(std::span<const int32_t> prompt, int64_t max_tokens, const std::function<bool(int32_t)>& take);

 private:
  explicit Sampling(core::Model& model) : model_(&model) {}
  void Read(std::span<const int32_t> prompt);
  int32_t Draw();

  core::Model* model_;
  core::SampleArgs args_;
  int64_t sample_ = 0;
  std::vector<int32_t> end_tokens_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  std::unique_ptr<core::Decoder> decoder_;
  std::vector<int32_t> cached_;  // what the decoder has read
};

}  // namespace conclave::launch
