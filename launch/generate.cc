// SPDX-License-Identifier: Apache-2.0
#include "launch/generate.h"

#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/terminal.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "launch/chat.h"
#include "launch/conversation.h"
#include "launch/model_loading.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

constexpr int64_t kDefaultTokens = 128, kDefaultChatTokens = 1024, kDefaultContext = 4096;

absl::StatusOr<std::vector<int32_t>> ParseIds(const std::string& text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int32_t id = 0;
    const std::from_chars_result result = std::from_chars(at, end, id);
    if (result.ec != std::errc() || (result.ptr != end && *result.ptr != ',')) {
      return UsageError(absl::StrFormat("--prompt-ids: \"%s\" is not a list such as 1,2,3", text));
    }
    ids.push_back(id);
    at = result.ptr + (result.ptr != end);
  }
  return ids;
}

std::string ReadPrompt(const GenerateOptions& options) {
  if (options.prompt) return *options.prompt;
  if (core::IsTerminal(STDIN_FILENO)) fputs("the prompt, up to Ctrl-D:\n", stderr);
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (!text.empty() && text.back() == '\n') text.pop_back();  // what `echo` adds
  return text;
}

absl::StatusOr<data::ChatTemplate> ChooseTemplate(const GenerateOptions& options, const data::Tokenizer& tokenizer) {
  auto chosen = data::ChatTemplate::Choose(options.chat_template, tokenizer);
  if (chosen.ok()) return chosen;
  return UsageError(absl::StrFormat("--chat-template: %s", std::string(chosen.status().message())));
}

absl::StatusOr<std::vector<int32_t>> PromptIds(const GenerateOptions& options, const data::Tokenizer* tokenizer) {
  if (!tokenizer) return ParseIds(*options.prompt_ids);
  const std::string text = ReadPrompt(options);
  if (options.chat) {
    ASSIGN_OR_RETURN(data::ChatTemplate chat_template, ChooseTemplate(options, *tokenizer));
    Conversation conversation(*tokenizer, std::move(chat_template), options.system);
    conversation.Add(data::Role::kUser, text);
    return conversation.Render();
  }
  std::vector<int32_t> ids;
  if (const int32_t first = data::FirstToken(*tokenizer); first >= 0) ids.push_back(first);
  tokenizer->Encode(text, data::Parse::kText, ids);
  return ids;
}

absl::Status CheckPrompt(const std::vector<int32_t>& prompt, const char* option, const core::ModelConfig& config) {
  if (prompt.empty()) return UsageError(absl::StrFormat("%s: it holds no token", option));
  for (const int32_t id : prompt) {
    if (id >= 0 && id < config.vocab_size) continue;
    return UsageError(absl::StrFormat("%s: %d is outside of the vocabulary of %d", option, id, config.vocab_size));
  }
  if (static_cast<int64_t>(prompt.size()) < config.max_position_embeddings) return absl::OkStatus();
  return UsageError(absl::StrFormat("%s: it has %d tokens, the model takes %d (max_position_embeddings)", option,
                                    prompt.size(), config.max_position_embeddings));
}

void Print(const std::string& text) {
  fwrite(text.data(), 1, text.size(), stdout);
  fflush(stdout);
}

// What the user sees of a sample: text, or ids. One alone is shown as it comes; several would mix, so each is kept.
class Output {
 public:
  enum class When { kAsItComes, kLater };

  Output(const data::Tokenizer* tokenizer, When when) : when_(when) {
    if (tokenizer) decoder_.emplace(*tokenizer);
  }
  void Push(int32_t token) {
    Add(decoder_ ? decoder_->Push(token) : absl::StrFormat("%s%d", first_ ? "" : ",", token));
    first_ = false;
  }
  // Adds the end of the line; then what was kept, if anything.
  std::string Finish() {
    Add(decoder_ ? decoder_->Finish() + "\n" : "\n");
    return std::move(kept_);
  }

 private:
  void Add(const std::string& text) {
    if (when_ == When::kAsItComes) return Print(text);
    kept_ += text;
  }
  const When when_;
  std::optional<data::StreamDecoder> decoder_;
  std::string kept_;
  bool first_ = true;
};

void WriteSamples(std::span<const int32_t> prompt, int64_t max_tokens, int64_t first_sample,
                  const data::Tokenizer* tokenizer, Sampling& sampling) {
  const bool several = sampling.samples() > 1;
  std::vector<Output> outputs;
  outputs.reserve(sampling.samples());
  for (int64_t i = 0; i < sampling.samples(); ++i) {
    outputs.emplace_back(tokenizer, several ? Output::When::kLater : Output::When::kAsItComes);
  }
  sampling.Generate(prompt, max_tokens, [&](int64_t i, int32_t token) {
    outputs[i].Push(token);
    return true;
  });
  for (int64_t i = 0; i < sampling.samples(); ++i) {
    const std::string text = outputs[i].Finish();
    if (several) Print(absl::StrFormat("--- sample %d\n%s", first_sample + i, text));
  }
}

// On stderr, so that output can be piped.
void PrintSpeed(const SamplingSpeed& speed) {
  if (speed.tokens == 0) return;
  fputs((core::Styled(STDERR_FILENO, core::Style::kDim, speed.Text()) + "\n").c_str(), stderr);
}

// The model with a cache for `capacity` tokens.
struct Generator {
  LoadedModel loaded;
  std::unique_ptr<Sampling> sampling;  // freed before the model
};

absl::StatusOr<Generator> LoadGenerator(const GenerateOptions& options, const std::string& dir,
                                        const FolderConfig& config, const data::Tokenizer* tokenizer,
                                        int64_t capacity) {
  ASSIGN_OR_RETURN(std::vector<int32_t> end_tokens, ReadEndTokens(dir));
  end_tokens.push_back(static_cast<int32_t>(config.model.eos_token_id));  // -1, none, is never drawn
  if (tokenizer) end_tokens.push_back(tokenizer->eos_id());
  ASSIGN_OR_RETURN(const core::Precision precision, ChoosePrecision(options.precision, config));
  Generator generator;
  ASSIGN_OR_RETURN(generator.loaded,
                   LoadForInference(dir, config, precision, options.threads, capacity, CacheNamed(options.cache)));
  auto sampling = Sampling::Create(*generator.loaded.model, options.sampling, capacity, std::move(end_tokens));
  if (absl::IsResourceExhausted(sampling.status())) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s; give a smaller %s", std::string(sampling.status().message()),
                        options.context > 0 ? "--context" : "--samples or --max-tokens"));
  }
  RETURN_IF_ERROR(sampling.status());
  generator.sampling = std::make_unique<Sampling>(*std::move(sampling));
  return generator;
}

// Numbers of samples are 32 bits of what keys a draw.
absl::Status CheckSamples(const GenerateOptions& options, bool conversation) {
  const SamplingOptions& sampling = options.sampling;
  if (conversation && sampling.samples > 1) {
    return UsageError("--samples: a conversation has one answer to a message; give --prompt for several");
  }
  if (sampling.sample + sampling.samples - 1 <= INT32_MAX) return absl::OkStatus();
  return UsageError(absl::StrFormat("--samples: %d from sample %d on end beyond %d, the greatest number of a sample",
                                    sampling.samples, sampling.sample, INT32_MAX));
}

absl::StatusOr<ExitCode> Converse(const GenerateOptions& options, const std::string& dir, const FolderConfig& config,
                                  const data::Tokenizer& tokenizer) {
  const int64_t positions = config.model.max_position_embeddings;
  if (options.context > positions) {
    return UsageError(absl::StrFormat("--context: %d is more than the model's max_position_embeddings, %d",
                                      options.context, positions));
  }
  const int64_t capacity = options.context > 0 ? options.context : std::min(positions, kDefaultContext);
  ASSIGN_OR_RETURN(data::ChatTemplate chat_template, ChooseTemplate(options, tokenizer));
  ASSIGN_OR_RETURN(const Generator generator, LoadGenerator(options, dir, config, &tokenizer, capacity));
  Chat chat(tokenizer, std::move(chat_template), *generator.sampling, options.system,
            options.max_tokens.value_or(kDefaultChatTokens));
  ASSIGN_OR_RETURN(const ExitCode code, chat.Run());
  PrintSpeed(generator.sampling->speed());
  return code;
}

absl::StatusOr<ExitCode> Continue(const GenerateOptions& options, const std::string& dir, const FolderConfig& config,
                                  const data::Tokenizer* tokenizer) {
  ASSIGN_OR_RETURN(const std::vector<int32_t> prompt, PromptIds(options, tokenizer));
  RETURN_IF_ERROR(CheckPrompt(prompt, options.prompt_ids ? "--prompt-ids" : "--prompt", config.model));
  const int64_t length = static_cast<int64_t>(prompt.size());
  const int64_t wanted = options.max_tokens.value_or(kDefaultTokens);
  const int64_t max_tokens = std::min(wanted, config.model.max_position_embeddings - length);
  if (max_tokens < wanted && options.max_tokens) {
    core::LogWarning(absl::StrFormat("the model takes %d tokens: at most %d are generated",
                                     config.model.max_position_embeddings, max_tokens));
  }
  ASSIGN_OR_RETURN(const Generator generator, LoadGenerator(options, dir, config, tokenizer, length + max_tokens));
  WriteSamples(prompt, max_tokens, options.sampling.sample, tokenizer, *generator.sampling);
  PrintSpeed(generator.sampling->speed());
  return ExitCode::kDone;
}

}  // namespace

absl::StatusOr<ExitCode> Generate(const GenerateOptions& options) {
  const bool conversation = options.chat && !options.prompt;
  RETURN_IF_ERROR(CheckSamples(options, conversation));
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(dir));
  RETURN_IF_ERROR(CheckCache("--cache", options.cache, config.model));
  if (options.prompt_ids) return Continue(options, dir, config, nullptr);
  const auto tokenizer = data::LoadTokenizer(dir);
  if (!tokenizer.ok()) {
    return absl::Status(tokenizer.status().code(), absl::StrFormat("%s; without a tokenizer give --prompt-ids 1,2,3",
                                                                   std::string(tokenizer.status().message())));
  }
  return conversation ? Converse(options, dir, config, **tokenizer) : Continue(options, dir, config, tokenizer->get());
}

}  // namespace conclave::launch
