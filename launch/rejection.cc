// SPDX-License-Identifier: Apache-2.0
#include "launch/rejection.h"

#include <memory>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "core/config/hf_config.h"
#include "core/config/yaml.h"
#include "core/model/model_graph.h"
#include "launch/banner.h"
#include "launch/ranks.h"
#include "launch/rejection_run.h"
#include "launch/teacher_parts.h"
#include "launch/text.h"
#include "launch/usage_error.h"

namespace conclave::launch {
namespace {

// Whether the file is there, and of this config.
absl::StatusOr<bool> IsWritten(const std::string& file, const RunFolder& folder, const core::Config& config,
                               parallel::Job& job) {
  ASSIGN_OR_RETURN(const std::string written, FromFirst(job, [&]() -> absl::StatusOr<std::string> {
                     if (!core::FileExists(file) || !core::FileExists(folder.ConfigPath())) return "";
                     ASSIGN_OR_RETURN(const core::Config before, core::LoadConfig(folder.ConfigPath(), {}));
                     RETURN_IF_ERROR(CheckContinues(before, config));
                     return "yes";
                   }));
  return !written.empty();
}

absl::Status CheckOptions(const TrainOptions& options) {
  if (options.profile) return UsageError("--profile: is of training steps; sampling has none");
  if (!options.trace.empty()) return UsageError("--trace: is of training steps; sampling has none");
  return absl::OkStatus();
}

// Nothing: the file is written. `config`: of stage reject.
absl::StatusOr<std::optional<ExitCode>> Sample(const RunFolder& folder, const core::Config& config,
                                               RejectionFiles files, RunParts& parts, const TrainOptions& options,
                                               parallel::Job& job) {
  RETURN_IF_ERROR(CreateParts(config, options.threads, job, parts));
  PrintBanner(config, parts, "samples of " + config.model.from, options.version, job);
  if (options.dry_run) {
    if (IsFirst(job)) PrintLine("dry run: nothing was drawn, the run folder is as it was");
    return ExitCode::kDone;
  }
  auto run = RejectionRun::Create(config, folder, std::move(files), parts, job);
  RETURN_IF_ERROR(job.AgreeOn(run.status()));
  return (*run)->Run();
}

// What draws the samples of stage distill.
core::Config TeacherConfig(const core::Config& config) {
  core::Config teacher = config;
  teacher.stage = "reject";
  teacher.reject = config.distill;
  teacher.model = {};
  teacher.model.from = config.teacher;
  teacher.data.tokenizer = "auto";
  return teacher;
}

void SayWhichIsLarger(const core::Config& config, const core::ModelConfig& teacher, const core::ModelConfig& student) {
  const auto params = [&config](const core::ModelConfig& model) {
    return core::MakeModelGraph(model, config.data.sequence_length).params();
  };
  if (params(student) <= params(teacher)) return;
  PrintLine(absl::StrFormat("the student is larger than its teacher: %s parameters, and %s", CountText(params(student)),
                            CountText(params(teacher))));
}

}  // namespace

absl::StatusOr<ExitCode> Reject(const RunFolder& folder, core::Config config, const TrainOptions& options,
                                parallel::Job& job) {
  RETURN_IF_ERROR(CheckOptions(options));
  RunParts parts;
  RETURN_IF_ERROR(job.AgreeOn(LoadTokenizerAndModelConfig(config, parts)));
  RETURN_IF_ERROR(job.CheckSame("the model", core::WriteHfConfig(parts.model_config, "float32")));
  const RejectionFiles files{.samples = folder.RejectPath(), .metrics = folder.MetricsPath()};
  ASSIGN_OR_RETURN(const bool written, IsWritten(files.samples, folder, config, job));
  if (written) {
    if (IsFirst(job)) PrintLine(absl::StrFormat("already done: %s is there", files.samples));
    return ExitCode::kDone;
  }
  if (!options.dry_run) RETURN_IF_ERROR(OnFirst(job, [&] { return folder.StoreConfig(config); }));
  ASSIGN_OR_RETURN(const std::optional<ExitCode> stop, Sample(folder, config, files, parts, options, job));
  return stop.value_or(ExitCode::kDone);
}

absl::StatusOr<std::optional<ExitCode>> PrepareTeacherSamples(const RunFolder& folder, const core::Config& config,
                                                              const RunParts& student, const TrainOptions& options,
                                                              parallel::Job& job) {
  const RejectionFiles files{.samples = folder.TeacherSamplesPath(), .metrics = folder.TeacherMetricsPath()};
  ASSIGN_OR_RETURN(const bool written, IsWritten(files.samples, folder, config, job));
  if (written) return std::nullopt;
  core::Config teacher_config = TeacherConfig(config);
  RunParts teacher;
  RETURN_IF_ERROR(job.AgreeOn(LoadTokenizerAndModelConfig(teacher_config, teacher)));
  RETURN_IF_ERROR(job.AgreeOn(CheckSameTokenizer(config, *teacher.tokenizer, *student.tokenizer)));
  if (!options.dry_run) RETURN_IF_ERROR(OnFirst(job, [&] { return folder.StoreConfig(config); }));
  if (IsFirst(job)) SayWhichIsLarger(config, teacher.model_config, student.model_config);
  return Sample(folder, teacher_config, files, teacher, options, job);
}

}  // namespace conclave::launch
