// SPDX-License-Identifier: Apache-2.0
#include "launch/text_steps.h"

#include <chrono>
#include <cmath>

#include "core/base/status_macros.h"

namespace conclave::launch {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TextSteps>> TextSteps::Create(const core::Config& config, RunParts& parts) {
  std::unique_ptr<TextSteps> steps(new TextSteps(config, parts));
  RETURN_IF_ERROR(steps->FollowModel());
  return steps;
}

absl::Status TextSteps::FollowModel() {
  if (parts_.teacher) LearnFrom(config_, *parts_.teacher, *parts_.trainer);
  if (parts_.problems.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(evaluation_, ProblemEvaluation::Create(config_, *parts_.tokenizer, parts_.problems, *parts_.model,
                                                          *parts_.layout));
  return absl::OkStatus();
}

absl::StatusOr<StepReport> TextSteps::Step(RunState& state) {
  const int64_t step = state.step + 1;
  const auto start = std::chrono::steady_clock::now();
  const core::Batch batch = parts_.loader->TrainBatch(state.data_position, optim::RowsOfStep(config_.batch, step));
  StepReport report;
  report.data_seconds = SecondsSince(start);
  parts_.loader->Prefetch(state.data_position + batch.rows, optim::RowsOfStep(config_.batch, step + 1));
  if (parts_.teacher) parts_.teacher->states->Compute(batch);
  report.metrics = parts_.trainer->Step(batch, step);
  report.seconds = SecondsSince(start);
  state.step = step;
  state.data_position += batch.rows;
  state.sample_chain = ExtendSampleChain(state.sample_chain, batch.row_ids);
  return report;
}

absl::StatusOr<std::optional<Validation>> TextSteps::Validate() {
  Validation validation;
  if (parts_.loader->num_validation_rows() > 0) MeasureLoss(validation);
  if (evaluation_) {
    ASSIGN_OR_RETURN(validation.solved, evaluation_->Run());
    validation.samples = FirstSamples(evaluation_->problems(), evaluation_->groups());
  }
  if (!validation.loss && !validation.solved) return std::nullopt;
  return validation;
}

void TextSteps::MeasureLoss(Validation& validation) {
  const data::Loader& loader = *parts_.loader;
  double nats = 0;  // a sum of multiples of one unit: exact, whatever the size of a batch
  int64_t labels = 0;
  for (int64_t begin = 0; begin < loader.num_validation_rows(); begin += config_.batch.sequences) {
    const optim::Trainer::Losses part =
        parts_.trainer->Evaluate(loader.ValidationBatch(begin, config_.batch.sequences));
    nats += part.loss;
    labels += part.num_labels;
  }
  validation.loss = nats / static_cast<double>(labels);
  validation.bits_per_byte = nats / std::log(2.0) / static_cast<double>(loader.validation_bytes());
}

}  // namespace conclave::launch
