// SPDX-License-Identifier: Apache-2.0
// Opens the sources of a config; what becomes of their rows is packed_loader.h.
#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "data/blend.h"
#include "data/packed_loader.h"
#include "data/token_cache.h"

namespace conclave::data {
namespace {

// What all sources of a loader have in common.
struct Context {
  const core::DataConfig& config;
  const Tokenizer& tokenizer;
  int64_t vocab_size;
  uint64_t seed;
  const LoadOptions& options;
  std::span<const core::TaskConfig> tasks;
};

absl::Status CheckSource(const core::SourceConfig& source, const std::string& key) {
  if (!source.synthetic.empty() && source.synthetic != "uniform") {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.synthetic: \"%s\" is not known; there is: uniform", key, source.synthetic));
  }
  if (!source.synthetic.empty() + !source.path.empty() + !source.task.empty() != 1) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: give one of path, task and synthetic", key));
  }
  if (!(source.weight > 0) || !std::isfinite(source.weight)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s.weight: %g is not a positive number", key, source.weight));
  }
  return absl::OkStatus();
}

absl::Status CheckIds(const TokenSource& tokens, const std::string& path, int64_t vocab_size) {
  if (tokens.largest_id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: has token id %d, but model.vocab_size is %d; name the tokenizer that made the ids as "
                      "data.tokenizer, or give "
                      "a model.vocab_size above %d",
                      path, tokens.largest_id, vocab_size, tokens.largest_id));
}

absl::StatusOr<TokenSource> OpenTokens(const core::SourceConfig& config, const Context& context,
                                       const std::string& key) {
  const std::string& chat_template = context.config.chat_template;
  ASSIGN_OR_RETURN(const std::string cache, CacheFolder(context.config.cache));
  if (config.task.empty()) return OpenTokenSource(config, chat_template, cache, context.tokenizer, context.options);
  ASSIGN_OR_RETURN(const TaskDocuments documents,
                   TaskDocuments::Create(config, key, context.tasks, context.config.system, context.seed,
                                         DocumentUse::kPretraining));
  return OpenTaskTokens(documents, chat_template, cache, context.tokenizer, context.options);
}

absl::StatusOr<RowSource> ReadSource(const core::SourceConfig& config, const Context& context, int64_t id,
                                     const std::string& key) {
  const DocumentBorders borders = context.config.mask_documents ? DocumentBorders::kMasked : DocumentBorders::kOpen;
  ASSIGN_OR_RETURN(TokenSource tokens, OpenTokens(config, context, key));
  RETURN_IF_ERROR(CheckIds(tokens, config.path, context.vocab_size));
  RowSource source{.id = id,
                   .rows = PackedRows(context.config.sequence_length, borders, std::move(tokens.tokens)),
                   .counts = {.files = tokens.num_files,
                              .documents = tokens.num_documents,
                              .empty_documents = tokens.num_empty_documents,
                              .bytes = tokens.text_bytes},
                   .checksum = tokens.checksum};
  if (source.NumRows() > 0) return source;
  return absl::InvalidArgumentError(absl::StrFormat("%s: one token alone is nothing to learn from", config.path));
}

absl::StatusOr<RowSource> MakeSource(const core::SourceConfig& config, const Context& context, int64_t id,
                                     const std::string& key) {
  RETURN_IF_ERROR(CheckSource(config, key));
  if (!config.synthetic.empty()) {
    const uint64_t stream = core::RandomKey(context.seed, core::RandomPurpose::kSynthetic, static_cast<uint64_t>(id));
    return RowSource{.id = id, .rows = SyntheticRows(context.config.sequence_length, context.vocab_size, stream)};
  }
  const bool is_text = !config.path.ends_with(".bin") && !config.path.ends_with(".idx");
  if (is_text && context.tokenizer.vocab_size() > context.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the tokenizer has %d ids, but model.vocab_size is %d; raise that, or give another "
                        "data.tokenizer",
                        key, context.tokenizer.vocab_size(), context.vocab_size));
  }
  absl::StatusOr<RowSource> source = ReadSource(config, context, id, key);
  if (!absl::IsNotFound(source.status())) return source;
  std::error_code ignored;
  return absl::NotFoundError(absl::StrFormat("%s.path: %s (relative paths count from %s)", key,
                                             std::string(source.status().message()),
                                             std::filesystem::current_path(ignored).string()));
}

absl::Status CheckConfig(const core::DataConfig& config) {
  if (config.train.empty() && config.validation.empty()) {
    return absl::InvalidArgumentError("data.train: there is no source");
  }
  if (config.train.size() > static_cast<size_t>(Blend::kMaxSources)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("data.train: %d sources, at most %d", config.train.size(), Blend::kMaxSources));
  }
  if (config.sequence_length < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("data.sequence_length: %d is not positive", config.sequence_length));
  }
  if (!(config.validation_fraction >= 0 && config.validation_fraction <= 0.5)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("data.validation_fraction: %g is not within 0 and 0.5", config.validation_fraction));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t NumHeldOutRows(int64_t rows, double fraction) {
  if (rows < 2) return 0;
  return std::max<int64_t>(static_cast<int64_t>(static_cast<double>(rows) * fraction), 1);
}

absl::StatusOr<std::unique_ptr<Loader>> Loader::Create(const core::DataConfig& config, const Tokenizer& tokenizer,
                                                       int64_t vocab_size, uint64_t seed, const LoadOptions& options,
                                                       std::span<const core::TaskConfig> tasks) {
  RETURN_IF_ERROR(CheckConfig(config));
  const Context context{config, tokenizer, vocab_size, seed, options, tasks};
  std::vector<RowSource> train, validation;
  for (size_t i = 0; i < config.train.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    ASSIGN_OR_RETURN(RowSource source, MakeSource(config.train[i], context, id, absl::StrFormat("data.train.%d", i)));
    source.weight = config.train[i].weight;
    train.push_back(std::move(source));
  }
  for (size_t i = 0; i < config.validation.size(); ++i) {
    const auto id = static_cast<int64_t>(config.train.size() + i);
    const std::string key = absl::StrFormat("data.validation.%d", i);
    if (!config.validation[i].synthetic.empty()) {
      return absl::InvalidArgumentError(key + ".synthetic: random tokens have no end; validation needs a file");
    }
    ASSIGN_OR_RETURN(RowSource source, MakeSource(config.validation[i], context, id, key));
    validation.push_back(std::move(source));
  }
  return PackedLoader::Create(std::move(train), std::move(validation), config, tokenizer, seed);
}

}  // namespace conclave::data
