// SPDX-License-Identifier: Apache-2.0
#include "launch/train_loop.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/terminal.h"
#include "core/checkpoint/file_io.h"
#include "launch/banner.h"
#include "launch/loss_curve.h"
#include "launch/signals.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

constexpr size_t kFewestForCurve = 8;  // losses; less is no curve
constexpr int kCurveColumns = 64, kCurveLines = 6;
constexpr int kCurveScale = 10;  // columns of the numbers beside it

std::string CurveText(const std::vector<double>& losses) {
  if (losses.size() < kFewestForCurve) return "";
  const int columns = std::clamp(core::TerminalColumns(STDOUT_FILENO) - kCurveScale, 1, kCurveColumns);
  return LossCurve(losses, columns, kCurveLines, PlotCharactersOfLocale());
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

TrainLoop::TrainLoop(const RunFolder& folder, const core::Config& config, RunParts& parts,
                     const CheckpointWriter& writer, RunState state)
    : folder_(folder),
      config_(config),
      parts_(parts),
      writer_(writer),
      graph_(core::MakeModelGraph(parts.model_config, config.data.sequence_length)),
      state_(std::move(state)),
      first_step_(state_.step),
      saved_step_(state_.step) {}

absl::Status TrainLoop::Open() {
  ASSIGN_OR_RETURN(MetricsHistory history, ReadMetrics(folder_.MetricsPath(), state_.step));
  if (history.last_step < state_.step) {
    core::LogWarning(absl::StrFormat("%s ends at step %d, before the checkpoint of step %d", folder_.MetricsPath(),
                                     history.last_step, state_.step));
  }
  ASSIGN_OR_RETURN(metrics_, AppendFile::Open(folder_.MetricsPath(), history.bytes));
  ASSIGN_OR_RETURN(events_, EventFile::Create(folder_.EventsPath(), state_.step + 1));
  losses_ = std::move(history.losses);
  start_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> TrainLoop::Run() {
  while (state_.step < config_.train.steps) {
    if (const std::optional<ExitCode> stop = StopSignals::Requested()) return Stop(*stop);
    RunStep();
  }
  return Finish();
}

void TrainLoop::RunStep() {
  const int64_t step = state_.step + 1;
  if (profiler_) profiler_->BeginStep();
  const auto start = std::chrono::steady_clock::now();
  const core::Batch batch = parts_.loader->TrainBatch(state_.data_position, optim::RowsOfStep(config_.batch, step));
  data_seconds_ = SecondsSince(start);
  parts_.loader->Prefetch(state_.data_position + batch.rows, optim::RowsOfStep(config_.batch, step + 1));
  const optim::StepMetrics metrics = parts_.trainer->Step(batch, step);
  const double seconds = SecondsSince(start);
  if (profiler_) profiler_->EndStep(step, seconds, data_seconds_);
  state_.step = step;
  state_.data_position += batch.rows;
  state_.sample_chain = ExtendSampleChain(state_.sample_chain, batch.row_ids);
  if (!metrics.finite) {
    Warn(absl::StrFormat("step %d: the loss or a gradient is not finite or out of range; the step changed nothing",
                         step));
  }
  std::optional<Validation> validation;
  if (parts_.loader->num_validation_rows() > 0 && IsDue(config_.train.validate_every)) validation = Validate();
  Record(metrics, seconds, validation);
  if (IsDue(config_.train.checkpoint_every)) Save();
  if (profiler_ && profiler_->Complete()) ReportProfile();
}

bool TrainLoop::IsDue(int64_t interval) const {
  return state_.step == config_.train.steps || (interval > 0 && state_.step % interval == 0);
}

TrainLoop::Validation TrainLoop::Validate() {
  const data::Loader& loader = *parts_.loader;
  double nats = 0;  // a sum of multiples of one unit: exact, whatever the size of a batch
  int64_t labels = 0;
  for (int64_t begin = 0; begin < loader.num_validation_rows(); begin += config_.batch.sequences) {
    const optim::Trainer::Losses part =
        parts_.trainer->Evaluate(loader.ValidationBatch(begin, config_.batch.sequences));
    nats += part.loss;
    labels += part.num_labels;
  }
  return {.loss = nats / static_cast<double>(labels),
          .bits_per_byte = nats / std::log(2.0) / static_cast<double>(loader.validation_bytes())};
}

void TrainLoop::Record(const optim::StepMetrics& metrics, double seconds, const std::optional<Validation>& validation) {
  const double tokens = static_cast<double>(metrics.tokens);
  JsonLine line;
  line.Add("step", metrics.step);
  line.Add("loss", metrics.loss);
  line.Add("mtp_loss", metrics.mtp_loss);
  line.Add("grad_norm", metrics.grad_norm);
  line.Add("lr", metrics.lr);
  line.Add("tokens", metrics.tokens);
  line.Add("seconds", seconds);
  line.Add("data_seconds", data_seconds_);
  line.Add("tokens_per_second", tokens / seconds);
  line.Add("model_flops_per_second", graph_.TrainFlopsPerToken() * tokens / seconds);
  if (parts_.model_config.n_routed_experts > 0) {
    line.Add("balance_loss", metrics.balance_loss);
    line.Add("load_imbalance", metrics.load_imbalance);
  }
  if (validation) {
    line.Add("validation_loss", validation->loss);
    line.Add("bits_per_byte", validation->bits_per_byte);
    last_validation_ = validation;
  }
  losses_.push_back(metrics.loss);
  const absl::Status written = metrics_.Append(line.Take());
  if (!written.ok() && !writing_failed_) {
    Warn(absl::StrFormat("%s; training goes on, the lines follow once there is room", std::string(written.message())));
  }
  writing_failed_ = !written.ok();
  RecordEvents(metrics, seconds, validation);
  ShowProgress(metrics, seconds, validation);
}

void TrainLoop::RecordEvents(const optim::StepMetrics& metrics, double seconds,
                             const std::optional<Validation>& validation) {
  const double tokens_per_second = static_cast<double>(metrics.tokens) / seconds;
  std::vector<Scalar> scalars = {{"train/loss", metrics.loss},
                                 {"train/grad_norm", metrics.grad_norm},
                                 {"train/lr", metrics.lr},
                                 {"speed/tokens_per_second", tokens_per_second},
                                 {"speed/model_flops_per_second", graph_.TrainFlopsPerToken() * tokens_per_second}};
  if (parts_.model_config.num_nextn_predict_layers > 0) scalars.push_back({"train/mtp_loss", metrics.mtp_loss});
  if (parts_.model_config.n_routed_experts > 0) {
    scalars.push_back({"experts/balance_loss", metrics.balance_loss});
    scalars.push_back({"experts/load_imbalance", metrics.load_imbalance});
  }
  if (validation) {
    scalars.push_back({"validation/loss", validation->loss});
    scalars.push_back({"validation/bits_per_byte", validation->bits_per_byte});
  }
  // A full disk is reported once, for the metrics.
  events_.Append(metrics.step, scalars).IgnoreError();
}

void TrainLoop::ShowProgress(const optim::StepMetrics& metrics, double seconds,
                             const std::optional<Validation>& validation) {
  const double per_step = SecondsSince(start_) / static_cast<double>(state_.step - first_step_);
  const double tokens_per_second = static_cast<double>(metrics.tokens) / seconds;
  progress_.Update({.step = metrics.step,
                    .total_steps = config_.train.steps,
                    .loss = metrics.loss,
                    .grad_norm = metrics.grad_norm,
                    .lr = metrics.lr,
                    .tokens_per_second = tokens_per_second,
                    .flops_per_second = graph_.TrainFlopsPerToken() * tokens_per_second,
                    .load_imbalance = metrics.load_imbalance,
                    .validation_loss = validation ? std::optional(validation->loss) : std::nullopt,
                    .seconds_left = per_step * static_cast<double>(config_.train.steps - metrics.step)});
}

void TrainLoop::ReportProfile() {
  if (!profiler_) return;
  if (profiler_->num_measured() == 0) {
    Warn("--profile: the run ended in the steps to warm up, nothing was measured; raise train.steps");
  } else {
    const StepProfile profile = profiler_->Summarize(*parts_.device, parts_.model->dtype());
    progress_.Clear();
    PrintLine(ProfileTable(profile));
    const auto written = core::WriteTextFile(folder_.ProfilePath(), ProfileLines(profile));
    if (!written.ok()) Warn(absl::StrFormat("%s; training goes on", std::string(written.status().message())));
  }
  profiler_.reset();
}

void TrainLoop::Save() {
  // First the metrics: after a crash of the machine, too, no checkpoint is ahead of them.
  metrics_.Sync().IgnoreError();
  const absl::StatusOr<std::string> path = writer_.Save(state_);
  if (!path.ok()) {
    return Warn(absl::StrFormat("step %d was not saved: %s; training goes on", state_.step,
                                std::string(path.status().message())));
  }
  saved_step_ = state_.step;
  saved_path_ = *path;
}

void TrainLoop::Warn(const std::string& text) {
  progress_.Clear();
  core::LogWarning(text);
}

ExitCode TrainLoop::Stop(ExitCode code) {
  progress_.Finish();
  if (saved_step_ != state_.step) Save();
  ReportProfile();
  if (saved_step_ != state_.step) return ExitCode::kFailed;
  PrintLine(absl::StrFormat("stopped at step %d of %d%s; the same command goes on from there", state_.step,
                            config_.train.steps, saved_path_.empty() ? "" : ", saved in " + saved_path_));
  return code;
}

absl::StatusOr<ExitCode> TrainLoop::Finish() {
  progress_.Finish();
  ReportProfile();
  std::string summary =
      absl::StrFormat("done: %d steps, %s, loss %.4f", state_.step, DurationText(SecondsSince(start_)),
                      losses_.empty() ? std::nan("") : losses_.back());
  if (last_validation_) {
    summary += absl::StrFormat(", validation %.4f (%.4f bits per byte)", last_validation_->loss,
                               last_validation_->bits_per_byte);
  }
  PrintLine(CurveText(losses_) + summary);
  if (!parts_.trainer->MeasuredAsPlanned()) {
    return absl::InternalError(absl::StrFormat("planned memory of a pass was %d bytes, measured %d: please report this",
                                               parts_.trainer->planned_memory().Total(),
                                               parts_.trainer->measured_memory().Total()));
  }
  if (saved_step_ != state_.step) return absl::UnavailableError("the last step could not be saved");
  PrintLabelled("saved", saved_path_);
  return ExitCode::kDone;
}

}  // namespace conclave::launch
