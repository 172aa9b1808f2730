// SPDX-License-Identifier: Apache-2.0
// Draw k of a training source is row permutation_e(k mod rows) in its
// epoch e = k / rows, with one keyed permutation per (source, epoch); the blend says which source a draw comes from.
#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_format.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "data/blend.h"
#include "data/count_text.h"
#include "data/epoch_order.h"
#include "data/packing.h"
#include "data/synthetic_rows.h"
#include "data/token_cache.h"

namespace conclave::data {
namespace {

constexpr int kRowIdBits = 40;  // row id = source << 40 | row; validation sources count on from the training sources

struct TextCounts {
  int64_t files = 0, documents = 0, empty_documents = 0, bytes = 0;
};

struct Source {
  int64_t id = 0;
  std::variant<PackedRows, SyntheticRows> rows;
  int64_t num_train_rows = 0;  // the rows from here on are held out for validation
  TextCounts counts{};
  std::string checksum = {};  // of the tokens

  bool IsSynthetic() const { return std::holds_alternative<SyntheticRows>(rows); }
  int64_t NumRows() const { return IsSynthetic() ? SyntheticRows::kNumRows : std::get<PackedRows>(rows).num_rows(); }

  void Prefetch(int64_t row) const {
    if (!IsSynthetic()) std::get<PackedRows>(rows).Prefetch(row);
  }

  void Fill(int64_t row, int64_t slot, core::Batch& batch) const {
    std::visit([&](const auto& r) { r.Fill(row, slot, batch); }, rows);
    batch.row_ids[slot] = (id << kRowIdBits) + row;
  }
};

// What all sources of a loader have in common.
struct Context {
  const core::DataConfig& config;
  const Tokenizer& tokenizer;
  int64_t vocab_size;
  uint64_t seed;
  const LoadOptions& options;
  std::span<const core::TaskConfig> tasks;
};

// A run of validation rows of one source.
struct ValidationRange {
  const Source* source;
  int64_t begin, end;
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
                   TaskDocuments::Create(config, key, context.tasks, context.config.system, context.seed));
  return OpenTaskTokens(documents, chat_template, cache, context.tokenizer, context.options);
}

absl::StatusOr<Source> ReadSource(const core::SourceConfig& config, const Context& context, int64_t id,
                                  const std::string& key) {
  const DocumentBorders borders = context.config.mask_documents ? DocumentBorders::kMasked : DocumentBorders::kOpen;
  ASSIGN_OR_RETURN(TokenSource tokens, OpenTokens(config, context, key));
  RETURN_IF_ERROR(CheckIds(tokens, config.path, context.vocab_size));
  Source source{.id = id,
                .rows = PackedRows(context.config.sequence_length, borders, std::move(tokens.tokens)),
                .counts = {.files = tokens.num_files,
                           .documents = tokens.num_documents,
                           .empty_documents = tokens.num_empty_documents,
                           .bytes = tokens.text_bytes},
                .checksum = tokens.checksum};
  if (source.NumRows() > 0) return source;
  return absl::InvalidArgumentError(absl::StrFormat("%s: one token alone is nothing to learn from", config.path));
}

absl::StatusOr<Source> MakeSource(const core::SourceConfig& config, const Context& context, int64_t id,
                                  const std::string& key) {
  RETURN_IF_ERROR(CheckSource(config, key));
  if (!config.synthetic.empty()) {
    const uint64_t stream = core::RandomKey(context.seed, core::RandomPurpose::kSynthetic, static_cast<uint64_t>(id));
    return Source{.id = id, .rows = SyntheticRows(context.config.sequence_length, context.vocab_size, stream)};
  }
  const bool is_text = !config.path.ends_with(".bin") && !config.path.ends_with(".idx");
  if (is_text && context.tokenizer.vocab_size() > context.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: the tokenizer has %d ids, but model.vocab_size is %d; raise that, or give another "
                        "data.tokenizer",
                        key, context.tokenizer.vocab_size(), context.vocab_size));
  }
  absl::StatusOr<Source> source = ReadSource(config, context, id, key);
  if (!absl::IsNotFound(source.status())) return source;
  std::error_code ignored;
  return absl::NotFoundError(absl::StrFormat("%s.path: %s (relative paths count from %s)", key,
                                             std::string(source.status().message()),
                                             std::filesystem::current_path(ignored).string()));
}

class PackedLoader final : public Loader {
 public:
  PackedLoader(std::vector<Source> train, std::vector<Source> validation, std::optional<Blend> blend,
               const Context& context)
      : length_(context.config.sequence_length),
        mask_documents_(context.config.mask_documents),
        seed_(context.seed),
        train_(std::move(train)),
        validation_(std::move(validation)),
        blend_(std::move(blend)) {
    for (const std::vector<Source>* sources : {&train_, &validation_}) {
      for (const Source& source : *sources) {
        if (source.IsSynthetic()) continue;
        validation_ranges_.push_back({&source, source.num_train_rows, source.NumRows()});
        num_validation_rows_ += source.NumRows() - source.num_train_rows;
      }
    }
    CountValidationBytes(context.tokenizer);
  }

  core::Batch TrainBatch(int64_t position, int64_t rows) const override;
  void Prefetch(int64_t position, int64_t rows) const override;
  core::Batch ValidationBatch(int64_t begin, int64_t rows) const override;
  std::string Fingerprint() const override;
  int64_t num_train_rows() const override {
    int64_t total = 0;
    for (const Source& source : train_) total += source.num_train_rows;
    return total;
  }
  int64_t num_validation_rows() const override { return num_validation_rows_; }
  int64_t validation_bytes() const override { return validation_bytes_; }
  std::string Description() const override;

 private:
  // Which row of which source is draw `position`.
  struct Draw {
    const Source& source;
    int64_t row;
  };
  Draw DrawAt(int64_t position) const;
  void CountValidationBytes(const Tokenizer& tokenizer);

  int64_t length_;
  bool mask_documents_;
  uint64_t seed_;
  std::vector<Source> train_, validation_;
  std::optional<Blend> blend_;  // none: nothing to train on
  std::vector<ValidationRange> validation_ranges_;
  int64_t num_validation_rows_ = 0, validation_bytes_ = 0;
};

PackedLoader::Draw PackedLoader::DrawAt(int64_t position) const {
  CHECK(blend_.has_value());
  const Blend::Draw draw = (*blend_)(position);
  const Source& source = train_[draw.source];
  return {source, DrawElement(seed_, source.id, source.num_train_rows, draw.index)};
}

core::Batch PackedLoader::TrainBatch(int64_t position, int64_t rows) const {
  core::Batch batch = PaddingBatch(rows, length_);
  for (int64_t slot = 0; slot < rows; ++slot) {
    const Draw draw = DrawAt(position + slot);
    draw.source.Fill(draw.row, slot, batch);
  }
  return batch;
}

void PackedLoader::Prefetch(int64_t position, int64_t rows) const {
  for (int64_t i = 0; i < rows; ++i) {
    const Draw draw = DrawAt(position + i);
    draw.source.Prefetch(draw.row);
  }
}

std::string PackedLoader::Fingerprint() const {
  core::Hasher hasher;
  auto add = [&](const std::string& text) { hasher.Update(text.data(), text.size()); };
  add(absl::StrFormat("rows of %d, %s", length_, mask_documents_ ? "masked" : "open"));
  for (const std::vector<Source>* sources : {&train_, &validation_}) {
    for (const Source& source : *sources) {
      add(absl::StrFormat("; source %d: %d rows of %s", source.id, source.NumRows(),
                          source.IsSynthetic() ? "random tokens" : source.checksum));
    }
  }
  return hasher.HexDigest();
}

core::Batch PackedLoader::ValidationBatch(int64_t begin, int64_t rows) const {
  core::Batch batch = PaddingBatch(rows, length_);
  int64_t range_begin = 0;  // in the concatenation of all ranges
  for (const ValidationRange& range : validation_ranges_) {
    const int64_t range_end = range_begin + range.end - range.begin;
    for (int64_t row = std::max(begin, range_begin); row < std::min(begin + rows, range_end); ++row) {
      range.source->Fill(range.begin + row - range_begin, row - begin, batch);
    }
    range_begin = range_end;
  }
  return batch;
}

void PackedLoader::CountValidationBytes(const Tokenizer& tokenizer) {
  std::vector<int64_t> bytes_of_id(tokenizer.vocab_size(), 0);
  for (size_t id = 0; id < bytes_of_id.size(); ++id) {
    if (!tokenizer.IsSpecial(static_cast<int32_t>(id))) {
      bytes_of_id[id] = static_cast<int64_t>(tokenizer.TokenText(static_cast<int32_t>(id)).size());
    }
  }
  for (int64_t row = 0; row < num_validation_rows_; ++row) {
    const core::Batch batch = ValidationBatch(row, 1);
    for (const int32_t label : batch.labels) {
      const bool known = label >= 0 && static_cast<size_t>(label) < bytes_of_id.size();
      validation_bytes_ += known ? bytes_of_id[label] : 0;
    }
  }
}

std::string PackedLoader::Description() const {
  TextCounts counts{};
  int64_t num_rows = 0, num_synthetic = 0;
  for (const Source& source : train_) {
    counts.files += source.counts.files;
    counts.documents += source.counts.documents;
    counts.empty_documents += source.counts.empty_documents;
    counts.bytes += source.counts.bytes;
    num_rows += source.IsSynthetic() ? 0 : source.num_train_rows;
    num_synthetic += source.IsSynthetic();
  }
  std::string text = train_.empty() ? "no training data" : "";
  if (counts.documents > 0) {
    text = counts.files > 1 ? Count(counts.files, "file") + ", " : "";
    text += Count(counts.documents, "document") + ", ";
    if (counts.bytes > 0) text += Count(counts.bytes, "byte") + ", ";  // token files do not know
    text += absl::StrFormat("%s of %d tokens", Count(num_rows, "row"), length_);
  }
  if (counts.empty_documents > 0) text += " (" + Count(counts.empty_documents, "empty document") + " skipped)";
  if (num_synthetic > 0) text += absl::StrFormat("%srandom rows of %d tokens", text.empty() ? "" : ", and ", length_);
  if (num_validation_rows_ > 0) text += "; validation " + Count(num_validation_rows_, "row");
  return text;
}

// Holds out the last rows of each source.
absl::Status HoldOut(double fraction, std::vector<Source>& train) {
  int64_t num_held_out = 0;
  for (Source& source : train) {
    if (source.IsSynthetic()) continue;
    source.num_train_rows -= NumHeldOutRows(source.NumRows(), fraction);
    num_held_out += source.NumRows() - source.num_train_rows;
  }
  if (num_held_out > 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "data.validation_fraction: no training source has two rows, so none can be held out; give more text, a smaller "
      "data.sequence_length, or data.validation");
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
  std::vector<Source> train, validation;
  std::vector<double> weights;
  for (size_t i = 0; i < config.train.size(); ++i) {
    const auto id = static_cast<int64_t>(i);
    ASSIGN_OR_RETURN(Source source, MakeSource(config.train[i], context, id, absl::StrFormat("data.train.%d", i)));
    source.num_train_rows = source.NumRows();
    train.push_back(std::move(source));
    weights.push_back(config.train[i].weight);
  }
  for (size_t i = 0; i < config.validation.size(); ++i) {
    const auto id = static_cast<int64_t>(config.train.size() + i);
    const std::string key = absl::StrFormat("data.validation.%d", i);
    if (!config.validation[i].synthetic.empty()) {
      return absl::InvalidArgumentError(key + ".synthetic: random tokens have no end; validation needs a file");
    }
    ASSIGN_OR_RETURN(Source source, MakeSource(config.validation[i], context, id, key));
    validation.push_back(std::move(source));
  }
  if (config.validation_fraction > 0 && validation.empty()) RETURN_IF_ERROR(HoldOut(config.validation_fraction, train));
  std::optional<Blend> blend;
  if (!train.empty()) blend.emplace(weights);
  return std::make_unique<PackedLoader>(std::move(train), std::move(validation), std::move(blend), context);
}

}  // namespace conclave::data
