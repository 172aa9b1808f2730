// SPDX-License-Identifier: Apache-2.0
#include "launch/run_report.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/log.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/base/terminal.h"
#include "launch/banner.h"
#include "launch/loss_curve.h"
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

std::vector<std::string> RewardNames(const core::Config& config) {
  std::vector<std::string> names;
  for (const core::RewardConfig& reward : config.reward) names.push_back(reward.name);
  return names;
}

// What the curve of a run is of.
std::string_view CurveFigure(const core::Config& config) {
  if (config.LearnsDistributions()) return "teacher_kl";
  return config.TrainsOnRollouts() ? "reward" : "loss";
}

double CurveValue(const StepReport& step) {
  if (step.metrics.teacher_kl) return *step.metrics.teacher_kl;
  return step.rollout ? step.rollout->reward.mean : step.metrics.loss;
}

double TokensPerSecond(const StepReport& step) { return static_cast<double>(step.metrics.tokens) / step.seconds; }

}  // namespace

RunReport::RunReport(const RunFolder& folder, const core::Config& config, const core::ModelConfig& model,
                     int64_t first_step)
    : folder_(folder),
      config_(config),
      model_(model),
      graph_(core::MakeModelGraph(model, config.data.sequence_length)),
      first_step_(first_step),
      last_step_(first_step) {}

absl::Status RunReport::Open() {
  ASSIGN_OR_RETURN(MetricsHistory history, ReadMetrics(folder_.MetricsPath(), first_step_, CurveFigure(config_)));
  if (history.last_step < first_step_) {
    core::LogWarning(absl::StrFormat("%s ends at step %d, before the checkpoint of step %d", folder_.MetricsPath(),
                                     history.last_step, first_step_));
  }
  ASSIGN_OR_RETURN(metrics_, AppendFile::Open(folder_.MetricsPath(), history.bytes));
  ASSIGN_OR_RETURN(const MetricsHistory samples, ReadMetrics(folder_.SamplesPath(), first_step_, "samples"));
  ASSIGN_OR_RETURN(samples_, AppendFile::Open(folder_.SamplesPath(), samples.bytes));
  ASSIGN_OR_RETURN(events_, EventFile::Create(folder_.EventsPath(), first_step_ + 1));
  losses_ = std::move(history.values);
  start_ = std::chrono::steady_clock::now();
  return absl::OkStatus();
}

void RunReport::Add(const StepReport& step) {
  last_step_ = step.metrics.step;
  losses_.push_back(CurveValue(step));
  if (step.validation) last_validation_ = step.validation;
  absl::Status written = Record(step);
  written.Update(RecordSamples(step));
  CheckWritten(written);
  RecordEvents(step);
  ShowProgress(step);
  if (step.validation && step.validation->solved) ShowSolved(step);
  if (!step.rollout || step.metrics.teacher_kl) return;  // rewards that nothing follows from
  for (const std::string& warning : watch_.Look(*step.rollout)) Warn(warning);
}

std::vector<Figure> RunReport::FiguresOf(const StepReport& step) const {
  std::vector<Figure> figures;
  if (step.rollout) figures = RolloutFigures(*step.rollout, RewardNames(config_));
  if (step.validation && step.validation->solved) {
    const std::vector<Figure> solved = EvaluationFigures(*step.validation->solved);
    figures.insert(figures.end(), solved.begin(), solved.end());
  }
  return figures;
}

absl::Status RunReport::Record(const StepReport& step) {
  const optim::StepMetrics& metrics = step.metrics;
  JsonLine line;
  line.Add("step", metrics.step);
  if (!step.rollout) {
    line.Add("loss", metrics.loss);
    line.Add("mtp_loss", metrics.mtp_loss);
  }
  if (metrics.teacher_kl) line.Add("teacher_kl", *metrics.teacher_kl);
  line.Add("grad_norm", metrics.grad_norm);
  line.Add("lr", metrics.lr);
  line.Add("tokens", metrics.tokens);
  line.Add("seconds", step.seconds);
  line.Add("data_seconds", step.data_seconds);
  line.Add("tokens_per_second", TokensPerSecond(step));
  line.Add("model_flops_per_second", graph_.TrainFlopsPerToken() * TokensPerSecond(step));
  if (model_.n_routed_experts > 0) {
    line.Add("balance_loss", metrics.balance_loss);
    line.Add("load_imbalance", metrics.load_imbalance);
  }
  if (step.validation && step.validation->loss) {
    line.Add("validation_loss", *step.validation->loss);
    line.Add("bits_per_byte", *step.validation->bits_per_byte);
  }
  for (const Figure& figure : FiguresOf(step)) line.Add(figure.name, figure.value);
  return metrics_.Append(line.Take());
}

absl::Status RunReport::RecordSamples(const StepReport& step) {
  if (!step.validation || step.validation->samples.empty()) return absl::OkStatus();
  return samples_.Append(WriteSampleLine({.step = step.metrics.step, .samples = step.validation->samples}));
}

void RunReport::CheckWritten(const absl::Status& written) {
  if (!written.ok() && !writing_failed_) {
    Warn(absl::StrFormat("%s; training goes on, the lines follow once there is room", std::string(written.message())));
  }
  writing_failed_ = !written.ok();
}

void RunReport::Sync() {
  metrics_.Sync().IgnoreError();
  samples_.Sync().IgnoreError();
}

void RunReport::RecordEvents(const StepReport& step) {
  const optim::StepMetrics& metrics = step.metrics;
  std::vector<Scalar> scalars = {{"train/loss", metrics.loss},
                                 {"train/grad_norm", metrics.grad_norm},
                                 {"train/lr", metrics.lr},
                                 {"speed/tokens_per_second", TokensPerSecond(step)},
                                 {"speed/model_flops_per_second", graph_.TrainFlopsPerToken() * TokensPerSecond(step)}};
  if (metrics.teacher_kl) scalars.push_back({"train/teacher_kl", *metrics.teacher_kl});
  if (model_.num_nextn_predict_layers > 0) scalars.push_back({"train/mtp_loss", metrics.mtp_loss});
  if (model_.n_routed_experts > 0) {
    scalars.push_back({"experts/balance_loss", metrics.balance_loss});
    scalars.push_back({"experts/load_imbalance", metrics.load_imbalance});
  }
  if (step.validation && step.validation->loss) {
    scalars.push_back({"validation/loss", *step.validation->loss});
    scalars.push_back({"validation/bits_per_byte", *step.validation->bits_per_byte});
  }
  const std::vector<Figure> figures = FiguresOf(step);
  std::vector<std::string> tags;
  tags.reserve(figures.size());  // scalars refer to them
  for (const Figure& figure : figures) {
    if (figure.group == nullptr) continue;
    const bool named = figure.name.starts_with(std::string(figure.group) + "/");
    tags.push_back(named ? figure.name : absl::StrFormat("%s/%s", figure.group, figure.name));
    scalars.push_back({tags.back(), figure.value});
  }
  // A full disk is reported once, for the metrics.
  events_.Append(metrics.step, scalars).IgnoreError();
}

void RunReport::ShowProgress(const StepReport& step) {
  const optim::StepMetrics& metrics = step.metrics;
  const double per_step = SecondsSince(start_) / static_cast<double>(metrics.step - first_step_);
  progress_.Update({.step = metrics.step,
                    .total_steps = config_.train.steps,
                    .loss = metrics.loss,
                    .grad_norm = metrics.grad_norm,
                    .lr = metrics.lr,
                    .tokens_per_second = TokensPerSecond(step),
                    .flops_per_second = graph_.TrainFlopsPerToken() * TokensPerSecond(step),
                    .load_imbalance = metrics.load_imbalance,
                    .validation_loss = step.validation ? step.validation->loss : std::nullopt,
                    .reward = step.rollout ? std::optional(step.rollout->reward.mean) : std::nullopt,
                    .length = step.rollout ? step.rollout->length.mean : 0,
                    .cache_difference = step.rollout ? step.rollout->cache_difference : std::nullopt,
                    .seconds_left = per_step * static_cast<double>(config_.train.steps - metrics.step)});
}

// The held-out score, and a response of the step beside it.
void RunReport::ShowSolved(const StepReport& step) {
  Print(absl::StrFormat("step %d: %s", step.metrics.step, EvaluationText(*step.validation->solved)));
  if (!step.rollout || step.rollout->example == nullptr) return;
  const rl::Episode& example = *step.rollout->example;
  Print(absl::StrFormat("  draw %d, reward %.2f: %s", example.completion.draw, example.reward,
                        core::Quoted(example.text)));
}

void RunReport::Warn(std::string_view text) {
  progress_.Clear();
  core::LogWarning(text);
}

void RunReport::Print(std::string_view text) {
  progress_.Clear();
  PrintLine(text);
}

void RunReport::PrintSummary() const {
  std::string summary = absl::StrFormat("done: %d steps, %s, %s %.4f", last_step_, DurationText(SecondsSince(start_)),
                                        CurveFigure(config_), losses_.empty() ? std::nan("") : losses_.back());
  if (last_validation_ && last_validation_->loss) {
    summary += absl::StrFormat(", validation %.4f (%.4f bits per byte)", *last_validation_->loss,
                               *last_validation_->bits_per_byte);
  }
  if (last_validation_ && last_validation_->solved) summary += "\n" + EvaluationText(*last_validation_->solved);
  PrintLine(CurveText(losses_) + summary);
}

}  // namespace conclave::launch
