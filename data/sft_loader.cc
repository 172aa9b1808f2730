// SPDX-License-Identifier: Apache-2.0
#include "data/sft_loader.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/packed_loader.h"
#include "data/sft_samples.h"
#include "data/tasks/task_documents.h"

namespace conclave::data {
namespace {

constexpr int64_t kValidationProblems = 256;  // of a task that validation gives no count

LearnedPart LearnedPartOf(const core::SftConfig& sft) {
  return sft.loss == "all" ? LearnedPart::kAll : sft.loss == "last" ? LearnedPart::kLast : LearnedPart::kAnswers;
}

// What all sources have in common.
struct Context {
  const core::Config& config;
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  const LoadOptions& options;
};

absl::StatusOr<SampleSource> ReadSource(const core::SourceConfig& source, const std::string& key,
                                        const Context& context) {
  const core::DataConfig& data = context.config.data;
  if (!source.synthetic.empty()) {
    return absl::InvalidArgumentError(key + ".synthetic: random tokens are no samples; give path or task");
  }
  SampleReader reader(data, LearnedPartOf(context.config.sft), context.tokenizer, context.chat_template,
                      context.options);
  if (source.task.empty()) {
    RETURN_IF_ERROR(reader.ReadFile(source, key));
  } else {
    ASSIGN_OR_RETURN(
        const TaskDocuments documents,
        TaskDocuments::Create(source, key, context.config.tasks, /*system=*/"",
                              static_cast<uint64_t>(context.config.train.seed), DocumentUse::kDemonstrations));
    RETURN_IF_ERROR(reader.ReadTask(documents));
  }
  return SampleSource{.key = key,
                      .name = source.task.empty() ? source.path : source.task + "/" + source.split,
                      .weight = source.weight,
                      .samples = reader.Take(),
                      .prompts = reader.prompts(),
                      .counts = reader.counts()};
}

absl::StatusOr<RowSource> ToRows(SampleSource source, int64_t id, int64_t length) {
  if (source.counts.documents == 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: there is no sample in %s%s", source.key, source.name,
                        source.counts.long_documents > 0 ? " that fits data.sequence_length; raise that" : ""));
  }
  SampleRows rows(length, std::move(source.samples));
  std::string checksum = rows.Checksum();
  return RowSource{.id = id,
                   .rows = std::move(rows),
                   .weight = source.weight,
                   .counts = source.counts,
                   .checksum = std::move(checksum)};
}

// sft.data: demos as sources: worked problems of all tasks, as many of each.
std::vector<core::SourceConfig> Demonstrations(const core::Config& config) {
  std::vector<core::SourceConfig> sources;
  const auto num_tasks = static_cast<int64_t>(config.tasks.size());
  for (int64_t i = 0; i < num_tasks; ++i) {
    core::SourceConfig source;
    source.task = config.tasks[i].name;
    source.count = config.sft.count / num_tasks + (i < config.sft.count % num_tasks ? 1 : 0);
    source.worked = 1;
    if (source.count > 0) sources.push_back(std::move(source));
  }
  return sources;
}

std::vector<core::SourceConfig> SourcesOf(const core::Config& config, SampleUse use) {
  if (use == SampleUse::kTraining) return config.sft.data == "demos" ? Demonstrations(config) : config.data.train;
  std::vector<core::SourceConfig> sources = config.data.validation;
  for (core::SourceConfig& source : sources) {
    if (source.task.empty() || source.count > 0) continue;
    source.count = kValidationProblems;
    source.worked = 1;
  }
  return sources;
}

absl::StatusOr<std::vector<RowSource>> ToRows(std::vector<SampleSource> sources, int64_t first_id, int64_t length) {
  std::vector<RowSource> rows;
  for (SampleSource& source : sources) {
    ASSIGN_OR_RETURN(RowSource row_source,
                     ToRows(std::move(source), first_id + static_cast<int64_t>(rows.size()), length));
    rows.push_back(std::move(row_source));
  }
  return rows;
}

absl::Status Check(const core::Config& config, const Tokenizer& tokenizer, int64_t vocab_size) {
  if (!config.data.mask_documents) {
    return absl::InvalidArgumentError(
        "data.mask_documents: false does not go with stage sft: samples of one row would see each other; leave it out");
  }
  if (config.sft.data.empty() && config.data.train.empty()) {
    return absl::InvalidArgumentError(
        "data.train: there are no samples; give e.g. [{path: chats.jsonl}], or sft.data: demos");
  }
  if (config.sft.data == "demos" && config.tasks.empty()) {
    return absl::InvalidArgumentError("sft.data: demos needs `tasks`, whose worked solutions they are");
  }
  if (tokenizer.vocab_size() <= vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("data.tokenizer: it has %d ids, but model.vocab_size is %d; raise that, or give another one",
                      tokenizer.vocab_size(), vocab_size));
}

}  // namespace

absl::StatusOr<std::vector<SampleSource>> ReadSamples(const core::Config& config, const Tokenizer& tokenizer,
                                                      SampleUse use, const LoadOptions& options) {
  ASSIGN_OR_RETURN(const ChatTemplate chat_template, ChatTemplate::Choose(config.data.chat_template, tokenizer));
  const Context context{config, tokenizer, chat_template, options};
  const std::vector<core::SourceConfig> sources = SourcesOf(config, use);
  const bool demos = use == SampleUse::kTraining && config.sft.data == "demos";
  const char* list = use == SampleUse::kTraining ? "train" : "validation";
  std::vector<SampleSource> samples;
  for (size_t i = 0; i < sources.size(); ++i) {
    const std::string key = demos ? std::string("sft.data") : absl::StrFormat("data.%s.%d", list, i);
    ASSIGN_OR_RETURN(SampleSource read, ReadSource(sources[i], key, context));
    samples.push_back(std::move(read));
  }
  return samples;
}

absl::Status CheckDisjoint(std::span<const SampleSource> train, std::span<const SampleSource> validation) {
  absl::flat_hash_map<uint64_t, const SamplePrompt*> trained;
  for (const SampleSource& source : train) {
    for (const SamplePrompt& prompt : source.prompts) trained.emplace(prompt.hash, &prompt);
  }
  for (const SampleSource& source : validation) {
    for (const SamplePrompt& prompt : source.prompts) {
      const auto found = trained.find(prompt.hash);
      if (found == trained.end()) continue;
      return absl::InvalidArgumentError(
          absl::StrFormat("data.validation: %s asks what is trained on, too, as %s; take it out of one of them",
                          prompt.place, found->second->place));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Loader>> CreateSftLoader(const core::Config& config, const Tokenizer& tokenizer,
                                                        int64_t vocab_size, const LoadOptions& options) {
  RETURN_IF_ERROR(Check(config, tokenizer, vocab_size));
  ASSIGN_OR_RETURN(std::vector<SampleSource> train, ReadSamples(config, tokenizer, SampleUse::kTraining, options));
  ASSIGN_OR_RETURN(std::vector<SampleSource> validation,
                   ReadSamples(config, tokenizer, SampleUse::kValidation, options));
  RETURN_IF_ERROR(CheckDisjoint(train, validation));
  const int64_t length = config.data.sequence_length;
  const auto num_train = static_cast<int64_t>(train.size());
  ASSIGN_OR_RETURN(std::vector<RowSource> train_rows, ToRows(std::move(train), 0, length));
  ASSIGN_OR_RETURN(std::vector<RowSource> validation_rows, ToRows(std::move(validation), num_train, length));
  return PackedLoader::Create(std::move(train_rows), std::move(validation_rows), config.data, tokenizer,
                              static_cast<uint64_t>(config.train.seed));
}

}  // namespace conclave::data
