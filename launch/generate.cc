// SPDX-License-Identifier: Apache-2.0
#include "launch/generate.h"

#include <stdio.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <memory>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "core/model/decoder.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "launch/model_loading.h"

namespace conclave::launch {
namespace {

using core::DType;
using core::Tensor;

absl::StatusOr<std::vector<int32_t>> ParseIds(const std::string& text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int32_t id = 0;
    const std::from_chars_result result = std::from_chars(at, end, id);
    if (result.ec != std::errc() || (result.ptr != end && *result.ptr != ',')) {
      return absl::InvalidArgumentError(absl::StrFormat("--prompt-ids: \"%s\" is not a list such as 1,2,3", text));
    }
    ids.push_back(id);
    at = result.ptr + (result.ptr != end);
  }
  return ids;
}

std::string ReadPrompt(const GenerateOptions& options) {
  if (options.prompt) return *options.prompt;
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (!text.empty() && text.back() == '\n') text.pop_back();  // what `echo` adds
  return text;
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const GenerateOptions& options, const data::Tokenizer* tokenizer) {
  if (!tokenizer) return ParseIds(*options.prompt_ids);
  const std::string text = ReadPrompt(options);
  if (options.chat) {
    const data::Message message{data::Role::kUser, text};
    ASSIGN_OR_RETURN(const data::ChatTemplate chat, data::ChatTemplate::Choose("auto", *tokenizer));
    return chat.Render(*tokenizer, {&message, 1}, data::GenerationPrompt::kAdd);
  }
  std::vector<int32_t> ids;
  if (tokenizer->bos_id() >= 0) ids.push_back(tokenizer->bos_id());
  tokenizer->Encode(text, data::Tokenizer::Parse::kText, ids);
  return ids;
}

absl::Status CheckPrompt(const std::vector<int32_t>& prompt, const core::ModelConfig& config) {
  if (prompt.empty())
    return absl::InvalidArgumentError("the prompt is empty, and this tokenizer has no first token to add");
  for (const int32_t id : prompt) {
    if (id >= 0 && id < config.vocab_size) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("prompt id %d is outside of the vocabulary of %d", id, config.vocab_size));
  }
  if (static_cast<int64_t>(prompt.size()) < config.max_position_embeddings) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("the prompt has %d tokens, the model takes %d (max_position_embeddings)", prompt.size(),
                      config.max_position_embeddings));
}

// Draws the next token of one sequence; memory for one draw.
class Sampler {
 public:
  static absl::StatusOr<Sampler> Create(core::Model& model, const GenerateOptions& options) {
    Sampler sampler(model);
    ASSIGN_OR_RETURN(sampler.memory_, model.device().Allocate(3 * core::kArenaAlignment, "sampling"));
    core::Arena arena("sampling");
    arena.Attach(sampler.memory_->data(), sampler.memory_->bytes());
    sampler.args_ = {.logits = {},
                     .temperature = static_cast<float>(options.temperature),
                     .top_p = static_cast<float>(options.top_p),
                     .min_p = static_cast<float>(options.min_p),
                     .top_k = static_cast<int>(options.top_k),
                     .key = core::RandomKey(static_cast<uint64_t>(options.seed), core::RandomPurpose::kSampling, 0),
                     .draw_ids = arena.Allocate(DType::kI64, {1}),
                     .tokens = arena.Allocate(DType::kI32, {1}),
                     .log_probs = arena.Allocate(DType::kF32, {1})};
    sampler.sample_ = options.sample;
    return sampler;
  }

  // `position`: of the token that is drawn.
  int32_t Draw(Tensor logits, int64_t position) {
    const int64_t draw_id = (sample_ << 32) + position;
    model_->device().CopyToDevice(model_->stream(), &draw_id, args_.draw_ids);
    args_.logits = logits;
    model_->kernels().Sample(args_);
    int32_t token = 0;
    model_->device().CopyToHost(model_->stream(), args_.tokens, &token);
    model_->device().Synchronize(model_->stream());
    return token;
  }

 private:
  explicit Sampler(core::Model& model) : model_(&model) {}

  core::Model* model_;
  core::SampleArgs args_;
  int64_t sample_ = 0;
  std::unique_ptr<core::DeviceBuffer> memory_;
};

// What the user sees of a token: text, or its id.
class Output {
 public:
  explicit Output(const data::Tokenizer* tokenizer) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }
  void Push(int32_t token) {
    Write(decoder_ ? decoder_->Push(token) : absl::StrFormat("%s%d", first_ ? "" : ",", token));
    first_ = false;
  }
  void Finish() { Write(decoder_ ? decoder_->Finish() + "\n" : "\n"); }

 private:
  static void Write(const std::string& text) {
    fwrite(text.data(), 1, text.size(), stdout);
    fflush(stdout);
  }
  std::optional<data::StreamDecoder> decoder_;
  bool first_ = true;
};

absl::Status CheckOptions(const GenerateOptions& options) {
  if (options.max_tokens < 0) return absl::InvalidArgumentError("--max-tokens must not be negative");
  if (options.seed < 0 || options.sample < 0 || options.sample >= int64_t{1} << 31) {
    return absl::InvalidArgumentError("--seed and --sample must not be negative, --sample must be below 2^31");
  }
  if (!(options.temperature >= 0) || !(options.top_p > 0 && options.top_p <= 1) ||
      !(options.min_p >= 0 && options.min_p <= 1) || options.top_k < 0 || options.top_k > INT32_MAX) {
    return absl::InvalidArgumentError(
        "sampling: --temperature and --top-k must not be negative, --top-p lies in (0, 1], --min-p in [0, 1]");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExitCode> Generate(const GenerateOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(dir));
  std::unique_ptr<data::Tokenizer> tokenizer;
  if (!options.prompt_ids) {
    auto loaded = data::LoadTokenizer(dir);
    if (!loaded.ok()) {
      return absl::Status(loaded.status().code(), absl::StrFormat("%s; without a tokenizer give --prompt-ids 1,2,3",
                                                                  std::string(loaded.status().message())));
    }
    tokenizer = std::move(loaded).value();
  }
  ASSIGN_OR_RETURN(std::vector<int32_t> tokens, PromptIds(options, tokenizer.get()));
  RETURN_IF_ERROR(CheckPrompt(tokens, config.model));
  const int64_t prompt_length = static_cast<int64_t>(tokens.size());
  const int64_t room = config.model.max_position_embeddings - prompt_length;
  const int64_t max_tokens = std::min(options.max_tokens, room);
  if (max_tokens < options.max_tokens) {
    core::LogWarning(absl::StrFormat("the model takes %d tokens: at most %d are generated",
                                     config.model.max_position_embeddings, max_tokens));
  }
  ASSIGN_OR_RETURN(const core::Precision precision, ChoosePrecision(options.precision, config));
  const int64_t capacity = prompt_length + max_tokens;
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadForInference(dir, config, precision, options.threads, capacity));
  ASSIGN_OR_RETURN(const auto decoder, core::Decoder::Create(*loaded.model, 1, capacity));
  ASSIGN_OR_RETURN(Sampler sampler, Sampler::Create(*loaded.model, options));

  const int32_t tokenizer_eos = tokenizer ? tokenizer->eos_id() : -1;
  Output output(tokenizer.get());
  for (int64_t i = 0; i < max_tokens; ++i) {
    decoder->Append({&tokens, 1});
    const int32_t token = sampler.Draw(decoder->logits(), prompt_length + i);
    if (token == tokenizer_eos || token == config.model.eos_token_id) break;
    output.Push(token);
    tokens.assign(1, token);
  }
  output.Finish();
  return ExitCode::kDone;
}

}  // namespace conclave::launch
