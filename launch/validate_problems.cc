// SPDX-License-Identifier: Apache-2.0
#include "launch/validate_problems.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/status_macros.h"
#include "data/document_statistics.h"
#include "data/prompts.h"
#include "data/sft_loader.h"
#include "launch/text.h"
#include "rl/reward/reward.h"

namespace conclave::launch {
namespace {

constexpr int64_t kOfEndless = 1000;  // problems that are looked at where there is no end
constexpr int64_t kMostListed = 100;  // answers that cannot be compared

std::string LengthText(const data::LengthHistogram& lengths) {
  return absl::StrFormat("min %s, mean %.1f, max %s", CountText(lengths.smallest()), lengths.Mean(),
                         CountText(lengths.largest()));
}

// As JSON text, names of special tokens included.
std::string Rendered(const data::Tokenizer& tokenizer, std::span<const int32_t> ids) {
  data::StreamDecoder decoder(tokenizer, data::SpecialTokens::kKeep);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  text += decoder.Finish();
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Whether answers are compared as mathematics; so they are where no reward is named.
bool NeedsGold(const core::Config& config) {
  if (config.reward.empty()) return true;
  return std::any_of(config.reward.begin(), config.reward.end(),
                     [](const core::RewardConfig& reward) { return reward.name == "math"; });
}

// Problems of one source.
class ProblemSource {
 public:
  ProblemSource(const core::Config& config, const data::Tokenizer& tokenizer, DataReport& report)
      : config_(config), tokenizer_(tokenizer), report_(report), dropping_(config.data) {
    dropping_.long_prompts = "drop";
  }

  void Check(const core::SourceConfig& source, const std::string& key) {
    report_.Source(key, source.task.empty() ? source.path : source.task + "/" + source.split);
    auto opened = data::PromptSource::Open(source, key, {dropping_, config_.tasks, tokenizer_}, 0);
    if (!opened.ok()) return report_.Refuse(std::string(opened.status().message()));
    const int64_t count = opened->size().value_or(kOfEndless);
    report_.Row("problems",
                opened->size() ? CountText(count) : absl::StrFormat("without end; of the first %s:", CountText(count)));
    PrintProblems(*opened, count);
    report_.Row("too long", absl::StrFormat("%s, more than %s tokens", CountText(opened->num_dropped()),
                                            CountText(config_.data.max_prompt_tokens)));
    if (opened->num_dropped() == 0 || config_.data.long_prompts == "drop") return;
    const auto refused = data::PromptSource::Open(source, key, {config_.data, config_.tasks, tokenizer_}, 0);
    report_.Refuse(std::string(refused.status().message()));
  }

 private:
  void PrintProblems(const data::PromptSource& source, int64_t count) {
    data::LengthHistogram lengths;
    std::vector<std::string> broken;
    int64_t num_broken = 0;
    for (int64_t i = 0; i < count; ++i) {
      const data::Prompt prompt = source.At(i);
      lengths.Add(static_cast<int64_t>(prompt.ids.size()));
      const absl::Status gold = NeedsGold(config_) ? rl::CheckGold(prompt.answer) : absl::OkStatus();
      if (gold.ok()) continue;
      if (num_broken++ < kMostListed) {
        broken.push_back(absl::StrFormat("%s: %s", prompt.id, std::string(gold.message())));
      }
    }
    report_.Row("prompt tokens", LengthText(lengths));
    if (NeedsGold(config_)) {
      report_.Row("broken answers", num_broken == 0 ? "0"
                                                    : absl::StrFormat("%s, which the reward math cannot compare: a "
                                                                      "response to these is never right",
                                                                      CountText(num_broken)));
    }
    for (const std::string& line : broken) report_.Row("", line);
    if (num_broken > kMostListed) report_.Row("", "...");
    const data::Prompt first = source.At(0);
    report_.Row("example", Rendered(tokenizer_, first.ids));
    report_.Row(
        "", "answer " + nlohmann::json(first.answer).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }

  const core::Config& config_;
  const data::Tokenizer& tokenizer_;
  DataReport& report_;
  core::DataConfig dropping_;
};

// Samples of one source.
void PrintSamples(const data::SampleSource& source, const data::Tokenizer& tokenizer, int64_t sequence_length,
                  DataReport& report) {
  report.Source(source.key, source.name);
  report.Row("samples", CountText(source.samples.size()));
  data::LengthHistogram lengths;
  for (int64_t i = 0; i < source.samples.size(); ++i) lengths.Add(source.samples.ends[i] - source.samples.Begin(i));
  report.Row("sample tokens", LengthText(lengths));
  report.Row("too long", absl::StrFormat("%s, more than the %s that a row can learn",
                                         CountText(source.counts.long_documents), CountText(sequence_length + 1)));
  if (source.samples.size() == 0) return report.Refuse("there is no sample in it");
  const int64_t learned = std::count(source.samples.learned.begin(), source.samples.learned.end(), 1);
  report.Row("learned", absl::StrFormat("%s of %s tokens", CountText(learned),
                                        CountText(static_cast<int64_t>(source.samples.tokens.size()))));
  const int64_t end = source.samples.ends[0];
  std::vector<int32_t> answer;
  for (int64_t i = 0; i < end; ++i) {
    if (source.samples.learned[i]) answer.push_back(source.samples.tokens[i]);
  }
  report.Row("example", Rendered(tokenizer, std::span(source.samples.tokens).first(end)));
  report.Row("", "learned " + Rendered(tokenizer, answer));
}

void ReportOverlap(const absl::Status& disjoint, DataReport& report) {
  report.Source("held out", "what the run is judged by");
  disjoint.ok() ? report.Row("overlap", "none of it is trained on") : report.Refuse(std::string(disjoint.message()));
}

}  // namespace

absl::Status ValidateProblems(const core::Config& config, const data::Tokenizer& tokenizer, DataReport& report) {
  ProblemSource source(config, tokenizer, report);
  const core::DataConfig& data = config.data;
  for (size_t i = 0; i < data.prompts.size(); ++i) source.Check(data.prompts[i], absl::StrFormat("data.prompts.%d", i));
  for (size_t i = 0; i < data.validation.size(); ++i) {
    source.Check(data.validation[i], absl::StrFormat("data.validation.%d", i));
  }
  if (!report.good()) return absl::OkStatus();
  const data::PromptContext context{config.data, config.tasks, tokenizer};
  ASSIGN_OR_RETURN(const data::PromptSet prompts,
                   data::PromptSet::Create(context, static_cast<uint64_t>(config.train.seed)));
  ASSIGN_OR_RETURN(const std::vector<data::Prompt> problems, data::ReadValidationPrompts(context, config.eval.prompts));
  ReportOverlap(data::CheckDisjoint(prompts, problems), report);
  return absl::OkStatus();
}

absl::Status ValidateSamples(const core::Config& config, const data::Tokenizer& tokenizer,
                             const data::LoadOptions& options, DataReport& report) {
  ProblemSource problems(config, tokenizer, report);
  for (size_t i = 0; i < config.data.validation.size(); ++i) {
    const core::SourceConfig& source = config.data.validation[i];
    if (!source.task.empty()) problems.Check(source, absl::StrFormat("data.validation.%d", i));
  }
  core::Config dropping = config;
  dropping.data.long_prompts = "drop";
  std::vector<data::SampleSource> samples[2];  // of training, of validation
  for (const data::SampleUse use : {data::SampleUse::kTraining, data::SampleUse::kValidation}) {
    auto read = data::ReadSamples(dropping, tokenizer, use, options);
    if (absl::IsCancelled(read.status())) return read.status();
    if (!read.ok()) {
      report.Refuse(std::string(read.status().message()));
      continue;
    }
    int64_t too_long = 0;
    for (const data::SampleSource& source : *read) {
      PrintSamples(source, tokenizer, config.data.sequence_length, report);
      too_long += source.counts.long_documents;
    }
    if (too_long > 0 && config.data.long_prompts != "drop") {
      report.Refuse(std::string(data::ReadSamples(config, tokenizer, use, options).status().message()));
    }
    samples[static_cast<size_t>(use)] = *std::move(read);
  }
  ReportOverlap(data::CheckDisjoint(samples[0], samples[1]), report);
  return absl::OkStatus();
}

}  // namespace conclave::launch
