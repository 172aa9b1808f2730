// SPDX-License-Identifier: Apache-2.0
// Samples that grow side by side from one prompt: it is read into the cache once, tokens are drawn for all samples and
// appended until each has its end token. What a prompt shares with the one before is not computed again, so the next
// turn of a conversation costs its new tokens alone. Draws are keyed by (seed, sample, position) and rows of the
// decoder do not see each other: a sample is the same in any company.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/model/decoder.h"
#include "core/model/model.h"

namespace conclave::launch {

struct SamplingOptions {
  double temperature = 1, top_p = 1, min_p = 0;
  int64_t top_k = 0;
  int64_t seed = 0;
  int64_t sample = 0;   // number of the first sample
  int64_t samples = 1;  // numbers ascend from there
};

enum class Ending { kEndToken, kMaxTokens, kStopped };

// What was computed and how long it took, over all prompts so far.
struct SamplingSpeed {
  int64_t prompt_tokens = 0;  // that were not in the cache
  double prompt_seconds = 0;  // up to their logits
  int64_t tokens = 0;         // drawn, end tokens too
  int64_t later_tokens = 0;   // those behind the first of each sample: what `seconds` went into
  double seconds = 0;         // from the first draw to the last

  // "16 tokens read in 0.021 s, 8,192 drawn at 12,700 tokens/s"
  std::string Text() const;
};

class Sampling {
 public:
  // For at most `capacity` tokens, prompts and answers together.
  static absl::StatusOr<Sampling> Create(core::Model& model, const SamplingOptions& options, int64_t capacity,
                                         std::vector<int32_t> end_tokens);

  int64_t capacity() const { return decoder_->capacity(); }
  int64_t samples() const { return decoder_->sequences(); }
  const SamplingSpeed& speed() const { return speed_; }

  // Draws up to `max_tokens` tokens of each sample after `prompt` and hands them to take(index of the sample, token),
  // which says whether that sample goes on; never an end token. The prompt is not empty and leaves room for the answer.
  // Returns how each sample ended.
  std::vector<Ending> Generate(std::span<const int32_t> prompt, int64_t max_tokens,
                               const std::function<bool(int64_t, int32_t)>& take);

 private:
  explicit Sampling(core::Model& model) : model_(&model) {}
  void Read(std::span<const int32_t> prompt);
  // Draws into tokens_ what comes next in each sample that goes on.
  void Draw();
  // Hands the tokens over; false once all samples have ended.
  bool HandOver(const std::function<bool(int64_t, int32_t)>& take, std::vector<Ending>& endings);

  core::Model* model_;
  core::SampleArgs args_;
  int64_t first_sample_ = 0;
  std::vector<int32_t> end_tokens_;
  std::unique_ptr<core::DeviceBuffer> memory_;
  std::unique_ptr<core::Decoder> decoder_;
  std::vector<int32_t> cached_;    // what the decoder has read of the first sample
  std::vector<int32_t> tokens_;    // [samples] the last ones; -1: the sample has ended
  std::vector<int32_t> drawn_;     // [samples] as the kernel gives them
  std::vector<int64_t> draw_ids_;  // [samples]
  SamplingSpeed speed_;
};

}  // namespace conclave::launch
