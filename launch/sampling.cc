// SPDX-License-Identifier: Apache-2.0
#include "launch/sampling.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "core/tensor/arena.h"
#include "launch/text.h"

namespace conclave::launch {

namespace {

using core::DType;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::string SamplingSpeed::Text() const {
  std::string text = absl::StrFormat("%s tokens read in %.3f s, %s drawn", CountText(prompt_tokens), prompt_seconds,
                                     CountText(tokens));
  if (later_tokens > 0 && seconds > 0) {
    text += absl::StrFormat(" at %s tokens/s",
                            CountText(static_cast<int64_t>(static_cast<double>(later_tokens) / seconds)));
  }
  return text;
}

absl::StatusOr<Sampling> Sampling::Create(core::Model& model, const SamplingOptions& options, int64_t capacity,
                                          std::vector<int32_t> end_tokens) {
  Sampling sampling(model);
  ASSIGN_OR_RETURN(sampling.decoder_, core::Decoder::Create(model, options.samples, capacity));
  const int64_t samples = options.samples;
  constexpr int64_t kBytes = 8 + 4 + 4;  // of a sample
  ASSIGN_OR_RETURN(sampling.memory_, model.device().Allocate(samples * kBytes + 3 * core::kArenaAlignment, "sampling"));
  core::Arena arena("sampling");
  arena.Attach(sampling.memory_->data(), sampling.memory_->bytes());
  sampling.args_ = {.logits = {},
                    .temperature = static_cast<float>(options.temperature),
                    .top_p = static_cast<float>(options.top_p),
                    .min_p = static_cast<float>(options.min_p),
                    .top_k = static_cast<int>(options.top_k),
                    .key = core::RandomKey(static_cast<uint64_t>(options.seed), core::RandomPurpose::kSampling, 0),
                    .draw_ids = arena.Allocate(DType::kI64, {samples}),
                    .tokens = arena.Allocate(DType::kI32, {samples}),
                    .log_probs = arena.Allocate(DType::kF32, {samples})};
  sampling.first_sample_ = options.sample;
  sampling.end_tokens_ = std::move(end_tokens);
  sampling.tokens_.resize(samples);
  sampling.drawn_.resize(samples);
  sampling.draw_ids_.resize(samples);
  return sampling;
}

std::vector<Ending> Sampling::Generate(std::span<const int32_t> prompt, int64_t max_tokens,
                                       const std::function<bool(int64_t, int32_t)>& take) {
  CHECK_LE(static_cast<int64_t>(prompt.size()) + max_tokens, capacity());
  std::vector<Ending> endings(tokens_.size(), Ending::kMaxTokens);
  if (max_tokens == 0) return endings;
  Read(prompt);
  Draw();
  const Clock::time_point first = Clock::now();
  Clock::time_point last = first;
  for (int64_t drawn = 1; HandOver(take, endings) && drawn < max_tokens; ++drawn) {
    if (tokens_[0] >= 0) cached_.push_back(tokens_[0]);
    decoder_->Step(tokens_);
    const int64_t before = speed_.tokens;
    Draw();
    speed_.later_tokens += speed_.tokens - before;
    last = Clock::now();
  }
  speed_.seconds += Seconds(last - first);
  return endings;
}

void Sampling::Read(std::span<const int32_t> prompt) {
  CHECK(!prompt.empty());
  // At least one token is read anew: the logits are those after the last one read.
  const bool extends = cached_.size() < prompt.size() && std::equal(cached_.begin(), cached_.end(), prompt.begin());
  if (!extends) {
    decoder_->Clear(0);
    cached_.clear();
  }
  const Clock::time_point start = Clock::now();
  const std::span<const int32_t> rest = prompt.subspan(cached_.size());
  decoder_->Read(0, rest.first(rest.size() - 1));
  for (int64_t sample = 1; sample < samples(); ++sample) decoder_->Copy(0, sample);
  std::fill(tokens_.begin(), tokens_.end(), rest.back());
  decoder_->Step(tokens_);
  model_->device().Synchronize(model_->stream());
  speed_.prompt_tokens += static_cast<int64_t>(rest.size());
  speed_.prompt_seconds += Seconds(Clock::now() - start);
  cached_.assign(prompt.begin(), prompt.end());
}

void Sampling::Draw() {
  for (int64_t i = 0; i < samples(); ++i) draw_ids_[i] = ((first_sample_ + i) << 32) + decoder_->length(i);
  model_->device().CopyToDevice(model_->stream(), draw_ids_.data(), args_.draw_ids);
  args_.logits = decoder_->logits();
  model_->kernels().Sample(args_);
  model_->device().CopyToHost(model_->stream(), args_.tokens, drawn_.data());
  model_->device().Synchronize(model_->stream());
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i] < 0) continue;
    tokens_[i] = drawn_[i];
    ++speed_.tokens;
  }
}

bool Sampling::HandOver(const std::function<bool(int64_t, int32_t)>& take, std::vector<Ending>& endings) {
  bool goes_on = false;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    int32_t& token = tokens_[i];
    if (token < 0) continue;
    if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
      endings[i] = Ending::kEndToken;
      token = -1;
    } else if (!take(static_cast<int64_t>(i), token)) {
      endings[i] = Ending::kStopped;
      token = -1;
    } else {
      goes_on = true;
    }
  }
  return goes_on;
}

}  // namespace conclave::launch
