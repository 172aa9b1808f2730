// SPDX-License-Identifier: Apache-2.0
#include "launch/check_layouts.h"

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/model_folder.h"
#include "core/config/yaml.h"
#include "launch/banner.h"
#include "launch/load_display.h"
#include "launch/model_loading.h"
#include "launch/run_parts.h"
#include "launch/usage_error.h"
#include "optim/layout_check.h"
#include "optim/trainer.h"
#include "optim/weights.h"

namespace conclave::launch {
namespace {

// The first batches of the run, one more than steps: the last is only evaluated.
absl::StatusOr<std::vector<core::Batch>> FirstBatches(const core::Config& config, const RunParts& parts,
                                                      int64_t steps) {
  LoadDisplay display;
  ASSIGN_OR_RETURN(const auto loader, OpenLoader(config, parts, display.Options(0)));
  std::vector<core::Batch> batches;
  for (int64_t step = 1; step <= steps + 1; ++step) {
    batches.push_back(
        loader->TrainBatch(optim::PositionOfStep(config.batch, step), optim::RowsOfStep(config.batch, step)));
  }
  return batches;
}

absl::Status Initialize(const core::Config& config, double std, core::Model& model) {
  model.params().Initialize(model.kernels(), static_cast<uint64_t>(config.train.seed), std);
  if (config.model.from.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string dir, FindModelFolder(config.model.from));
  ASSIGN_OR_RETURN(const core::ModelFolder folder, core::ModelFolder::Open(dir));
  return optim::LoadWeights(folder, optim::MissingMtp::kKeepInitial, model);
}

struct Counts {
  int equal = 0, different = 0, absent = 0;
};

absl::Status Compare(const optim::LayoutTask& task, const optim::LayoutChoice& choice, const optim::LayoutOutcome& one,
                     Counts& counts) {
  const auto outcome = optim::RunLayout(task, choice);
  std::string verdict;
  if (absl::IsInvalidArgument(outcome.status())) {
    ++counts.absent;
    verdict = "no such layout: " + std::string(outcome.status().message());
  } else {
    RETURN_IF_ERROR(outcome.status());
    const bool equal = outcome->hash == one.hash && outcome->figures == one.figures;
    ++(equal ? counts.equal : counts.different);
    verdict = absl::StrFormat("%s  %.2f s%s", equal ? "equal" : "DIFFERENT " + outcome->hash, outcome->seconds,
                              outcome->memory_as_planned ? "" : ", memory NOT as planned");
    counts.different += equal && !outcome->memory_as_planned;
  }
  PrintLine(absl::StrFormat("%-78s %s", choice.Text(), verdict));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ExitCode> CheckLayouts(const CheckLayoutsOptions& options) {
  auto loaded = core::LoadConfig(options.config, options.overrides);
  if (!loaded.ok()) return AsUsageError(loaded.status());
  core::Config config = *std::move(loaded);
  if (config.stage != "pretrain" && config.stage != "sft") {
    return UsageError(absl::StrFormat(
        "stage: %s has no rows of text to compare layouts on; compare what two short runs write", config.stage));
  }
  if (!config.exact) PrintLine("exact is false: bits are expected to depend on the layout; this says by which layouts");
  RunParts parts;
  RETURN_IF_ERROR(LoadTokenizerAndModelConfig(config, parts));
  config.train.steps = options.steps;
  ASSIGN_OR_RETURN(const std::vector<core::Batch> batches, FirstBatches(config, parts, options.steps));
  const double std = config.train.init_std > 0 ? config.train.init_std : parts.model_config.initializer_range;
  const optim::LayoutTask task{
      .config = config,
      .model = parts.model_config,
      .steps = options.steps,
      .batch = [&batches](int64_t step) { return batches[static_cast<size_t>(step - 1)]; },
      .initialize = [&config, std](core::Model& model) { return Initialize(config, std, model); }};
  ASSIGN_OR_RETURN(const optim::LayoutOutcome one, optim::RunLayout(task, {}));
  PrintLine(absl::StrFormat("%-78s state %s  %.2f s", optim::LayoutChoice().Text(), one.hash, one.seconds));
  Counts counts;
  for (const optim::LayoutChoice& choice : optim::ListLayouts(static_cast<int>(options.ranks))) {
    RETURN_IF_ERROR(Compare(task, choice, one, counts));
  }
  PrintLine(
      absl::StrFormat("%d layouts end in the same bits, %d do not%s", counts.equal, counts.different,
                      counts.absent > 0 ? absl::StrFormat("; %d do not exist for this config", counts.absent) : ""));
  return counts.different == 0 ? ExitCode::kDone : ExitCode::kFailed;
}

}  // namespace conclave::launch
