// SPDX-License-Identifier: Apache-2.0
#include "launch/validate_data.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/config/recipe.h"
#include "data/loader.h"
#include "data/source_report.h"
#include "launch/banner.h"
#include "launch/data_report.h"
#include "launch/load_display.h"
#include "launch/run_parts.h"
#include "launch/signals.h"
#include "launch/text.h"
#include "launch/validate_problems.h"

namespace conclave::launch {
namespace {

void PrintDocuments(const data::SourceReport& report, DataReport& out) {
  out.Row("files", absl::StrFormat("%s, %s", CountText(report.num_files), BytesText(report.file_bytes)));
  out.Row("documents", absl::StrFormat("%s, and %s empty, which are left out", CountText(report.lengths.count()),
                                       CountText(report.num_empty_documents)));
  out.Row("broken records", CountText(report.num_problems));
  for (const std::string& problem : report.problems) out.Row("", problem);
  if (report.num_problems > static_cast<int64_t>(report.problems.size())) out.Row("", "...");
  if (report.text_bytes > 0) out.Row("bytes of text", CountText(report.text_bytes));
  std::string tokens = CountText(report.num_tokens);
  if (report.text_bytes > 0) {
    tokens += absl::StrFormat(", %.4f per byte",
                              static_cast<double>(report.num_tokens) / static_cast<double>(report.text_bytes));
  }
  out.Row("tokens", tokens);
  if (report.lengths.count() == 0) return;
  out.Row("lengths",
          absl::StrFormat("min %s, median %s, mean %.1f, 99%% %s, max %s tokens", CountText(report.lengths.smallest()),
                          CountText(report.lengths.Quantile(0.5)), report.lengths.Mean(),
                          CountText(report.lengths.Quantile(0.99)), CountText(report.lengths.largest())));
  if (report.text_bytes == 0) return;
  out.Row("duplicates",
          absl::StrFormat("%s%s documents have the text of an earlier one", report.duplicates.IsExact() ? "" : "about ",
                          CountText(report.duplicates.Count())));
}

// Returns the rows held out.
int64_t PrintRows(const data::SourceReport& report, const core::DataConfig& config, bool may_hold_out,
                  DataReport& out) {
  const int64_t length = config.sequence_length;
  const int64_t rows = (std::max<int64_t>(report.num_tokens - 1, 0) + length - 1) / length;
  const int64_t held_out = may_hold_out ? data::NumHeldOutRows(rows, config.validation_fraction) : 0;
  out.Row("rows", absl::StrFormat("%s of %d tokens, %s of them held out for validation", CountText(rows), length,
                                  CountText(held_out)));
  if (rows == 0) return 0;
  const int64_t labels = report.num_tokens - (config.mask_documents ? report.lengths.count() : 1);
  out.Row("filled", absl::StrFormat("%.3f%% of the positions have a label; padding: %s at the end of the last row",
                                    100 * static_cast<double>(labels) / static_cast<double>(rows * length),
                                    CountText(std::max<int64_t>(rows * length - report.num_tokens, 0))));
  if (report.num_tokens > rows * length) out.Row("left out", "the last token begins no row: it is a label only");
  return held_out;
}

// Why no run could start with this source; "" if one could.
std::string Obstacle(const data::SourceReport& report, const core::SourceConfig& source, const RunParts& parts) {
  if (report.num_problems > 0) return "a run stops at the first broken record: mend or remove them";
  if (report.num_tokens < 2) return absl::StrFormat("%s: there is no text in it", source.path);
  const int64_t ids = report.text_bytes > 0 ? parts.tokenizer->vocab_size() : report.largest_id + 1;
  if (ids > parts.model_config.vocab_size) {
    return absl::StrFormat("there are %d ids, but model.vocab_size is %d", ids, parts.model_config.vocab_size);
  }
  return "";
}

class Validation {
 public:
  Validation(const core::Config& config, const RunParts& parts, int threads, DataReport& report)
      : config_(config), parts_(parts), threads_(threads), report_(report) {}

  // An error only if a signal asks to stop.
  absl::Status Check(const core::SourceConfig& source, const std::string& key, bool is_for_training) {
    const std::string& made = source.synthetic.empty() ? source.task : source.synthetic;
    report_.Source(key, made.empty() ? source.path : made);
    if (!source.synthetic.empty()) return absl::OkStatus();
    const auto report = Inspect(source, key);
    if (absl::IsCancelled(report.status())) return report.status();
    if (!report.ok()) {
      report_.Refuse(std::string(report.status().message()));
      return absl::OkStatus();
    }
    PrintDocuments(*report, report_);
    const bool may_hold_out =
        is_for_training && config_.data.validation_fraction > 0 && config_.data.validation.empty();
    num_held_out_ += PrintRows(*report, config_.data, may_hold_out, report_);
    if (const std::string obstacle = Obstacle(*report, source, parts_); !obstacle.empty()) report_.Refuse(obstacle);
    return absl::OkStatus();
  }

  int64_t num_held_out() const { return num_held_out_; }

 private:
  absl::StatusOr<data::SourceReport> Inspect(const core::SourceConfig& source, const std::string& key) const {
    const data::Tokenizer& tokenizer = *parts_.tokenizer;
    const std::string& chat_template = config_.data.chat_template;
    LoadDisplay display;  // gone before anything else is printed
    if (source.task.empty()) return data::InspectSource(source, chat_template, tokenizer, display.Options(threads_));
    ASSIGN_OR_RETURN(const auto documents, data::TaskDocuments::Create(source, key, config_.tasks, config_.data.system,
                                                                       static_cast<uint64_t>(config_.train.seed),
                                                                       data::DocumentUse::kPretraining));
    return data::InspectDocuments(documents, chat_template, tokenizer, display.Options(threads_));
  }

  const core::Config& config_;
  const RunParts& parts_;
  int threads_;
  DataReport& report_;
  int64_t num_held_out_ = 0;
};

// Of stage pretrain: text.
absl::Status ValidateText(const core::Config& config, const RunParts& parts, int threads, DataReport& report) {
  Validation validation(config, parts, threads, report);
  for (size_t i = 0; i < config.data.train.size(); ++i) {
    RETURN_IF_ERROR(validation.Check(config.data.train[i], absl::StrFormat("data.train.%d", i), true));
  }
  for (size_t i = 0; i < config.data.validation.size(); ++i) {
    RETURN_IF_ERROR(validation.Check(config.data.validation[i], absl::StrFormat("data.validation.%d", i), false));
  }
  const bool wants_validation = config.data.validation_fraction > 0 && config.data.validation.empty();
  if (report.good() && wants_validation && validation.num_held_out() == 0) {
    report.Refuse("data.validation_fraction: no training source has two rows, so none can be held out");
  }
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> ValidateSources(core::Config config, int threads) {
  RunParts parts;
  RETURN_IF_ERROR(LoadTokenizerAndModelConfig(config, parts));
  RETURN_IF_ERROR(LoadTeacherConfig(config, parts));
  DataReport report;
  if (config.TrainsOnRollouts()) {
    RETURN_IF_ERROR(ValidateProblems(config, *parts.tokenizer, report));
  } else if (config.stage == "sft") {
    RETURN_IF_ERROR(ValidateSamples(config, *parts.tokenizer, QuietLoadOptions(threads), report));
  } else {
    RETURN_IF_ERROR(ValidateText(config, parts, threads, report));
  }
  PrintLine(report.good() ? "a run would start with this data" : "a run would not start with this data");
  return report.good() ? ExitCode::kDone : ExitCode::kFailed;
}

}  // namespace

absl::StatusOr<ExitCode> ValidateData(const TrainOptions& options) {
  const StopSignals signals;
  auto config = core::LoadStage(options.config, options.overrides, options.stage);
  if (!config.ok()) {
    core::LogError(std::string(config.status().message()));
    return ExitCode::kUsage;
  }
  const auto code = ValidateSources(*std::move(config), options.threads);
  if (const auto stop = StopSignals::Requested(); stop && absl::IsCancelled(code.status())) return *stop;
  return code;
}

}  // namespace conclave::launch
