// SPDX-License-Identifier: Apache-2.0
#include "launch/eval.h"

#include <stdio.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "absl/strings/str_format.h"

#include "core/base/fixed_sum.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/config/yaml.h"
#include "data/loader.h"
#include "data/tokenizer.h"
#include "launch/eval_problems.h"
#include "launch/load_display.h"
#include "launch/metrics.h"
#include "launch/model_loading.h"
#include "launch/text.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

struct LossTotals {
  double nats = 0;
  int64_t labels = 0;
};

int64_t DefaultLength(const std::string& dir, const core::ModelConfig& model) {
  int64_t length = std::min<int64_t>(model.max_position_embeddings, 1024);
  if (!IsCheckpoint(dir)) return length;
  const auto meta = core::ReadCheckpointMeta(dir);
  if (!meta.ok()) return length;
  const auto config = core::ParseConfig(meta->config_yaml, dir, {});
  return config.ok() ? config->data.sequence_length : length;
}

// Losses are rounded per row, so the batch size does not change the sum.
absl::StatusOr<LossTotals> Measure(const data::Loader& loader, int64_t batch_rows, int64_t length, core::Model& model) {
  const core::PassShape shape{core::PassMode::kForwardOnly, std::min(batch_rows, loader.num_validation_rows()), length,
                              false};
  ASSIGN_OR_RETURN(const auto runner, core::PassRunner::Create(model, {shape}));
  ASSIGN_OR_RETURN(const auto memory, model.device().Allocate(shape.rows * 8, "losses"));
  core::StepStatistics statistics;
  statistics.loss = core::Tensor(memory->data(), core::DType::kF64, {1, shape.rows});
  std::vector<double> row_losses(shape.rows);
  LossTotals totals;
  int64_t fixed = 0;
  for (int64_t begin = 0; begin < loader.num_validation_rows(); begin += shape.rows) {
    const core::Batch batch = loader.ValidationBatch(begin, shape.rows);
    runner->Begin(batch, 0, shape);
    model.stage().Forward(runner->lane(), runner->pass(), {}, statistics, runner->saved());
    model.device().CopyToHost(model.stream(), statistics.loss, row_losses.data());
    model.device().Synchronize(model.stream());
    for (const double loss : row_losses) {
      if (!std::isfinite(loss)) return absl::DataLossError("a loss is not finite: the weights are broken");
      fixed += core::LossToFixed(loss);
    }
    totals.labels += batch.num_labels;
  }
  totals.nats = core::FixedToLoss(fixed);
  return totals;
}

void Print(const LossTotals& totals, int64_t bytes, bool json) {
  const double loss = totals.nats / static_cast<double>(std::max<int64_t>(totals.labels, 1));
  const double perplexity = std::exp(loss);
  const double bits = bytes > 0 ? totals.nats / std::log(2.0) / static_cast<double>(bytes) : std::nan("");
  if (json) {
    JsonLine line;
    line.Add("loss", loss);
    line.Add("perplexity", perplexity);
    line.Add("bits_per_byte", bits);
    line.Add("tokens", totals.labels);
    line.Add("bytes", bytes);
    fputs(line.Take().c_str(), stdout);
    return;
  }
  fputs(
      absl::StrFormat("loss           %.6f nats per token\nperplexity     %.4f\nbits per byte  %s\ntokens         %s\n"
                      "bytes          %s\n",
                      loss, perplexity, bytes > 0 ? absl::StrFormat("%.5f", bits) : "-", CountText(totals.labels),
                      CountText(bytes))
          .c_str(),
      stdout);
}

absl::StatusOr<ExitCode> EvalText(const EvalOptions& options) {
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(options.dir));
  ASSIGN_OR_RETURN(const FolderConfig config, ReadFolderConfig(dir));
  ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizerOf(options.tokenizer.empty() ? dir : options.tokenizer));
  core::DataConfig data;
  data.sequence_length = options.sequence_length > 0 ? options.sequence_length : DefaultLength(dir, config.model);
  if (data.sequence_length > config.model.max_position_embeddings) {
    return UsageError(absl::StrFormat("--sequence-length: %d is more than the model's max_position_embeddings, %d",
                                      data.sequence_length, config.model.max_position_embeddings));
  }
  for (const std::string& file : options.words) {
    core::SourceConfig source;
    source.path = file;
    source.field = options.field;
    data.validation.push_back(source);
  }
  LoadDisplay display;
  ASSIGN_OR_RETURN(const auto loader, data::Loader::Create(data, *tokenizer, config.model.vocab_size, 0,
                                                           display.Options(options.threads)));
  ASSIGN_OR_RETURN(const core::Precision precision, ChoosePrecision(options.precision, config));
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadForInference(dir, config, precision, options.threads, data.sequence_length));
  ASSIGN_OR_RETURN(const LossTotals totals, Measure(*loader, options.batch, data.sequence_length, *loaded.model));
  Print(totals, loader->validation_bytes(), options.json);
  return ExitCode::kDone;
}

// An option that only problems have.
std::string OptionOfProblems(const ProblemOptions& problem) {
  if (problem.problems) return "--prompts";
  if (problem.samples) return "--samples";
  if (problem.temperature) return "--temperature";
  if (problem.max_tokens) return "--max-tokens";
  if (problem.seed) return "--seed";
  return problem.out.empty() ? "" : "--out";
}

}  // namespace

absl::StatusOr<ExitCode> Eval(const EvalOptions& options, parallel::Job& job) {
  if (options.problem.Any()) return EvalProblems(options, job);
  if (const std::string option = OptionOfProblems(options.problem); !option.empty()) {
    return UsageError(option + ": is for problems; name them with --tasks or --problems");
  }
  if (options.words.empty()) {
    return UsageError("FILES: nothing to evaluate; give files of text, or problems with --tasks or --problems");
  }
  return EvalText(options);
}

}  // namespace conclave::launch
