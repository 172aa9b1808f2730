// SPDX-License-Identifier: Apache-2.0
#include "launch/train.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/config/yaml.h"
#include "launch/banner.h"
#include "launch/run_checkpoints.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/signals.h"
#include "launch/train_loop.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

void SayFinished(const core::Config& config, const Resume& resume) {
  PrintLine(absl::StrFormat("already done: %s holds step %d of %d; raise train.steps to go on", resume.path,
                            resume.meta.step, config.train.steps));
}

std::string StartText(const core::Config& config, const std::optional<Resume>& resume) {
  if (!resume) return config.model.from.empty() ? "new run" : "new run, weights from " + config.model.from;
  return absl::StrFormat("resuming from %s, step %d", resume->path, resume->meta.step);
}

absl::StatusOr<ExitCode> TrainIn(const RunFolder& folder, core::Config config, const TrainOptions& options) {
  ASSIGN_OR_RETURN(const std::optional<Resume> resume, FindResume(folder));
  RunParts parts;
  RETURN_IF_ERROR(LoadTokenizerAndModelConfig(config, parts));
  if (resume) {
    RETURN_IF_ERROR(CheckResume(*resume, config));
    if (resume->meta.step >= config.train.steps) {
      SayFinished(config, *resume);
      return ExitCode::kDone;
    }
  }
  if (options.profile) parts.operations = std::make_unique<core::OperationProfile>();
  const absl::Status created = CreateParts(config, options.threads, parts);
  if (const auto stop = StopSignals::Requested(); stop && absl::IsCancelled(created)) {
    PrintLine(absl::StrFormat("%s; the same command begins anew", std::string(created.message())));
    return *stop;
  }
  RETURN_IF_ERROR(created);
  if (options.dry_run) {
    PrintBanner(config, parts, StartText(config, resume), options.version);
    PrintLine("dry run: nothing was trained, the run folder is as it was");
    return ExitCode::kDone;
  }
  RunState state;
  if (resume) {
    ASSIGN_OR_RETURN(state, RestoreRun(*resume, config, parts));
  } else {
    RETURN_IF_ERROR(InitializeWeights(config, parts));
  }
  state.history.push_back(HistoryLine(config, state.step, parts.device->Description()));
  RETURN_IF_ERROR(folder.StoreConfig(config));
  PrintBanner(config, parts, StartText(config, resume), options.version);

  const CheckpointWriter writer(folder, config, options.version, parts);
  TrainLoop loop(folder, config, parts, writer, state);
  RETURN_IF_ERROR(loop.Open());
  if (options.profile) loop.Profile(options.profile_steps);
  return loop.Run();
}

}  // namespace

absl::StatusOr<ExitCode> Train(const TrainOptions& options) {
  auto config = core::LoadConfig(options.config, options.overrides);
  if (!config.ok()) return AsUsageError(config.status());
  if (options.dry_run) {
    const RunFolder folder = RunFolder::At(config->run.dir);
    return TrainIn(folder, std::move(config).value(), options);
  }
  const StopSignals signals;
  ASSIGN_OR_RETURN(const RunFolder folder, RunFolder::Open(config->run.dir));
  return TrainIn(folder, std::move(config).value(), options);
}

}  // namespace conclave::launch
