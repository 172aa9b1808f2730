// SPDX-License-Identifier: Apache-2.0
#include "launch/sampling.h"

#include <algorithm>
#include <utility>

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "core/tensor/arena.h"

namespace conclave::launch {

using core::DType;

absl::StatusOr<Sampling> Sampling::Create(core::Model& model, const SamplingOptions& options, int64_t capacity,
                                          std::vector<int32_t> end_tokens) {
  Sampling sampling(model);
  ASSIGN_OR_RETURN(sampling.decoder_, core::Decoder::Create(model, 1, capacity));
  ASSIGN_OR_RETURN(sampling.memory_, model.device().Allocate(3 * core::kArenaAlignment, "sampling"));
  core::Arena arena("sampling");
  arena.Attach(sampling.memory_->data(), sampling.memory_->bytes());
  sampling.args_ = {.logits = {},
                    .temperature = static_cast<float>(options.temperature),
                    .top_p = static_cast<float>(options.top_p),
                    .min_p = static_cast<float>(options.min_p),
                    .top_k = static_cast<int>(options.top_k),
                    .key = core::RandomKey(static_cast<uint64_t>(options.seed), core::RandomPurpose::kSampling, 0),
                    .draw_ids = arena.Allocate(DType::kI64, {1}),
                    .tokens = arena.Allocate(DType::kI32, {1}),
                    .log_probs = arena.Allocate(DType::kF32, {1})};
  sampling.sample_ = options.sample;
  sampling.end_tokens_ = std::move(end_tokens);
  return sampling;
}

Ending Sampling::Generate(std::span<const int32_t> prompt, int64_t max_tokens,
                          const std::function<bool(int32_t)>& take) {
  CHECK_LE(static_cast<int64_t>(prompt.size()) + max_tokens, capacity());
  if (max_tokens == 0) return Ending::kMaxTokens;
  Read(prompt);
  for (int64_t i = 1;; ++i) {
    const int32_t token = Draw();
    if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) return Ending::kEndToken;
    if (!take(token)) return Ending::kStopped;
    if (i == max_tokens) return Ending::kMaxTokens;
    cached_.push_back(token);
    decoder_->Step({&token, 1});
  }
}

void Sampling::Read(std::span<const int32_t> prompt) {
  CHECK(!prompt.empty());
  // At least one token is read anew: the logits are those after the last one read.
  const bool extends = cached_.size() < prompt.size() && std::equal(cached_.begin(), cached_.end(), prompt.begin());
  if (!extends) {
    decoder_->Clear(0);
    cached_.clear();
  }
  const std::span<const int32_t> rest = prompt.subspan(cached_.size());
  decoder_->Read(0, rest.first(rest.size() - 1));
  decoder_->Step(rest.last(1));
  cached_.assign(prompt.begin(), prompt.end());
}

int32_t Sampling::Draw() {
  const int64_t draw_id = (sample_ << 32) + static_cast<int64_t>(cached_.size());
  model_->device().CopyToDevice(model_->stream(), &draw_id, args_.draw_ids);
  args_.logits = decoder_->logits();
  model_->kernels().Sample(args_);
  int32_t token = 0;
  model_->device().CopyToHost(model_->stream(), args_.tokens, &token);
  model_->device().Synchronize(model_->stream());
  return token;
}

}  // namespace conclave::launch
