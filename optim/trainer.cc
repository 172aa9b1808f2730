// SPDX-License-Identifier: Apache-2.0
#include "optim/trainer.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/base/exact_math.h"
#include "core/base/fixed_sum.h"
#include "core/base/status_macros.h"
#include "optim/lr_schedule.h"

namespace conclave::optim {

using core::DType;
using core::Param;
using core::ParamKind;
using core::PassMode;
using core::PassShape;
using core::Tensor;

namespace {

// Losses of rows as integers of one unit, so that their sum has no order; NaN if one is so large that a sum of batch_rows such
// could leave the range, or is not a number.
double SumRows(std::span<const double> losses, int64_t batch_rows) {
  int64_t sum = 0;
  for (double loss : losses) {
    if (!(std::fabs(loss) < core::kLossRange / static_cast<double>(batch_rows))) return std::nan("");
    sum += core::LossToFixed(loss);
  }
  return core::FixedToLoss(sum);
}

}  // namespace

int64_t RowsOfStep(const core::BatchConfig& batch, int64_t step) {
  const core::BatchRampConfig& ramp = batch.ramp;
  if (ramp.start <= 0 || ramp.steps <= 0 || step > ramp.steps) return batch.sequences;
  const int64_t unit = batch.micro_sequences > 0 ? batch.micro_sequences : 1;
  const int64_t rows = ramp.start + (batch.sequences - ramp.start) * (step - 1) / ramp.steps;
  return std::clamp(rows / unit * unit, std::min(unit, batch.sequences), batch.sequences);
}

int64_t PositionOfStep(const core::BatchConfig& batch, int64_t step) {
  const int64_t ramp_steps = batch.ramp.start > 0 ? std::min(batch.ramp.steps, step - 1) : 0;
  int64_t position = (step - 1 - ramp_steps) * batch.sequences;
  for (int64_t s = 1; s <= ramp_steps; ++s) position += RowsOfStep(batch, s);
  return position;
}

int64_t Trainer::MicroRows() const {
  return config_.batch.micro_sequences > 0 ? config_.batch.micro_sequences : config_.batch.sequences;
}

PassShape Trainer::Shape(PassMode mode, int64_t rows) const {
  const bool predict_ahead = mode != PassMode::kForwardOnly && config_.moe.mtp_weight != 0;
  return {mode, rows, config_.data.sequence_length, predict_ahead};
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(core::Model& model, const core::Config& config) {
  std::unique_ptr<Trainer> trainer(new Trainer(model, config));
  const int64_t micro = trainer->MicroRows();
  ASSIGN_OR_RETURN(trainer->runner_,
                   core::PassRunner::Create(model, {trainer->Shape(PassMode::kTrainImmediate, micro),
                                                    trainer->Shape(PassMode::kForwardOnly, micro)}));
  // Statistics of a step, in whole micro-batches.
  const int64_t rows = (config.batch.sequences + micro - 1) / micro * micro;
  const int64_t depth = model.config().num_nextn_predict_layers;
  const int64_t moe_blocks = static_cast<int64_t>(core::MoeLayers(model.config()).size());
  const int64_t experts = model.config().n_routed_experts;
  core::Arena arena("step");
  auto allocate = [&] {
    core::StepStatistics& s = trainer->statistics_;
    s.loss = arena.Allocate(DType::kF64, {1 + depth, rows});
    s.z_sum = arena.Allocate(DType::kF64, {1, rows});
    if (moe_blocks > 0) {
      s.balance_loss = arena.Allocate(DType::kF64, {moe_blocks, rows});
      s.load = arena.Allocate(DType::kI64, {moe_blocks, experts});
    }
    trainer->limbs_ = arena.Allocate(DType::kI64, {core::kNormLimbs});
  };
  allocate();
  ASSIGN_OR_RETURN(trainer->step_memory_, model.device().Allocate(arena.peak(), "step statistics"));
  const int64_t bytes = arena.peak();
  arena.Reset();
  arena.Attach(trainer->step_memory_->data(), bytes);
  allocate();
  trainer->row_losses_.resize(rows);
  trainer->load_.resize(moe_blocks * experts);
  return trainer;
}

void Trainer::RunMicroBatches(const core::Batch& batch, const core::LossWeights& weights) {
  const core::Stage& stage = model_.stage();
  const int64_t micro = MicroRows();
  for (int64_t begin = 0; begin < batch.rows; begin += micro) {
    const int64_t rows = std::min(micro, batch.rows - begin);
    runner_->Begin(batch, begin, Shape(PassMode::kTrainImmediate, rows));
    stage.Forward(runner_->lane(), runner_->pass(), weights, statistics_.Rows(begin, rows), runner_->saved());
    stage.BackwardInput(runner_->lane(), runner_->pass(), weights, runner_->saved());
    stage.BackwardWeight(runner_->lane(), runner_->pass());
  }
}

double Trainer::GradientNorm() {
  core::Kernels& kernels = model_.kernels();
  kernels.Zero(limbs_);
  for (const auto& param : model_.params().params()) {
    if (param->sum) kernels.SumSquares(param->ShardOf(param->sum), limbs_);
  }
  int64_t limbs[core::kNormLimbs];
  int32_t out_of_range = 0;
  model_.device().CopyToHost(model_.stream(), limbs_, limbs);
  model_.device().CopyToHost(model_.stream(), model_.params().flag(), &out_of_range);
  model_.device().Synchronize(model_.stream());
  return out_of_range ? std::nan("") : std::sqrt(core::NormLimbsToDouble(limbs));
}

void Trainer::Update(double grad_norm, double lr, int64_t step) {
  const core::OptimConfig& optim = config_.optim;
  // As in PyTorch: max_norm / (norm + 1e-6), at most 1.
  const double clip = optim.clip > 0 ? std::min(1.0, optim.clip / (grad_norm + 1e-6)) : 1.0;
  core::AdamWArgs args{.gradient = {},
                       .clip = static_cast<float>(clip),
                       .lr = static_cast<float>(lr),
                       .beta1 = static_cast<float>(optim.betas[0]),
                       .beta2 = static_cast<float>(optim.betas[1]),
                       .eps = static_cast<float>(optim.eps),
                       .weight_decay = 0,
                       .correction1 = static_cast<float>(1 - core::ExactPow(optim.betas[0], static_cast<double>(step))),
                       .correction2 = static_cast<float>(1 - core::ExactPow(optim.betas[1], static_cast<double>(step))),
                       .master = {},
                       .m = {},
                       .v = {}};
  core::Kernels& kernels = model_.kernels();
  for (const auto& param : model_.params().params()) {
    if (!param->sum) continue;
    args.gradient = param->ShardOf(param->sum);
    args.weight_decay = param->spec.kind == ParamKind::kVector ? 0.0f : static_cast<float>(optim.weight_decay);
    args.master = param->ShardOf(param->master);
    args.m = param->m;
    args.v = param->v;
    kernels.AdamW(args);
  }
  for (const core::Stage::MoeBlock& block : model_.stage().moe_blocks()) {
    const Param* const bias = block.moe->router().bias();
    if (!bias || config_.moe.bias_update_speed == 0) continue;
    kernels.UpdateRouterBias(statistics_.load.Slice(0, block.index, 1).MergeFirst(),
                             static_cast<float>(config_.moe.bias_update_speed), bias->master);
  }
  for (const auto& param : model_.params().params()) {
    if (param->ema) kernels.Ema(param->ShardOf(param->master), static_cast<float>(optim.ema), param->ema);
  }
  model_.Refresh();
}

void Trainer::ReadStatistics(const core::Batch& batch, StepMetrics& metrics) {
  auto sum = [&](const Tensor& per_row, int64_t index) {
    model_.device().CopyToHost(model_.stream(), per_row.Slice(0, index, 1), row_losses_.data());
    model_.device().Synchronize(model_.stream());
    const double total = SumRows({row_losses_.data(), static_cast<size_t>(batch.rows)}, batch.rows);
    metrics.finite = metrics.finite && std::isfinite(total);
    return total;
  };
  const int64_t depth = model_.config().num_nextn_predict_layers;
  const double labels = static_cast<double>(std::max<int64_t>(batch.num_labels, 1));
  metrics.loss = sum(statistics_.loss, 0) / labels;
  const int64_t predicted = config_.moe.mtp_weight != 0 ? depth : 0;
  for (int64_t k = 1; k <= predicted; ++k) metrics.mtp_loss += sum(statistics_.loss, k) / labels / static_cast<double>(depth);
  const double z = sum(statistics_.z_sum, 0) / labels;
  metrics.total_loss = metrics.loss + config_.moe.mtp_weight * metrics.mtp_loss + config_.optim.z_loss * z;
  if (!statistics_.load) return;
  const int64_t blocks = statistics_.load.size(0), experts = statistics_.load.size(1);
  model_.device().CopyToHost(model_.stream(), statistics_.load, load_.data());
  model_.device().Synchronize(model_.stream());
  for (int64_t b = 0; b < blocks; ++b) {
    metrics.balance_loss += sum(statistics_.balance_loss, b) / static_cast<double>(batch.rows);
    int64_t largest = 0, total = 0;
    for (int64_t e = 0; e < experts; ++e) {
      largest = std::max(largest, load_[b * experts + e]);
      total += load_[b * experts + e];
    }
    if (total == 0) continue;
    const double ratio = static_cast<double>(largest) * static_cast<double>(experts) / static_cast<double>(total);
    metrics.load_imbalance = std::max(metrics.load_imbalance, ratio);
  }
  metrics.total_loss += config_.moe.balance_loss * metrics.balance_loss;
}

StepMetrics Trainer::Step(const core::Batch& batch, int64_t step) {
  CHECK_LE(batch.rows, config_.batch.sequences);
  StepMetrics metrics{.step = step};
  metrics.lr = LearningRate(config_.optim, step, config_.train.steps);
  metrics.tokens = batch.rows * batch.length;
  if (statistics_.load) model_.kernels().Zero(statistics_.load);
  model_.kernels().Zero(model_.params().flag());
  RunMicroBatches(batch, Weights(batch.num_labels));
  metrics.grad_norm = GradientNorm();
  ReadStatistics(batch, metrics);
  metrics.finite = metrics.finite && std::isfinite(metrics.grad_norm);
  if (metrics.finite) {
    Update(metrics.grad_norm, metrics.lr, step);
  } else {
    ClearGradients();
  }
  return metrics;
}

core::LossWeights Trainer::Weights(int64_t num_labels) const {
  const int64_t depth = std::max<int64_t>(model_.config().num_nextn_predict_layers, 1);
  return {.label_scale = num_labels > 0 ? static_cast<float>(1.0 / static_cast<double>(num_labels)) : 0.0f,
          .mtp = static_cast<float>(config_.moe.mtp_weight / static_cast<double>(depth)),
          .balance = static_cast<float>(config_.moe.balance_loss),
          .z_loss = static_cast<float>(config_.optim.z_loss)};
}

void Trainer::Backward(const core::Batch& batch) { RunMicroBatches(batch, Weights(batch.num_labels)); }

void Trainer::ClearGradients() {
  for (const auto& param : model_.params().params()) {
    if (param->sum) model_.kernels().Zero(param->sum);
  }
}

void Trainer::StartEma() {
  for (const auto& param : model_.params().params()) {
    if (param->ema) model_.kernels().Cast(param->ShardOf(param->master), param->ema);
  }
}

Trainer::Losses Trainer::Evaluate(const core::Batch& batch) {
  Losses losses{.loss = 0, .num_labels = batch.num_labels};
  const int64_t micro = MicroRows();
  core::StepStatistics statistics = statistics_;
  statistics.balance_loss = {};
  statistics.load = {};
  for (int64_t begin = 0; begin < batch.rows; begin += micro) {
    const int64_t rows = std::min(micro, batch.rows - begin);
    runner_->Begin(batch, begin, Shape(PassMode::kForwardOnly, rows));
    const core::StepStatistics part = statistics.Rows(0, rows);
    model_.stage().Forward(runner_->lane(), runner_->pass(), {}, part, runner_->saved());
    model_.device().CopyToHost(model_.stream(), part.loss.Slice(0, 0, 1), row_losses_.data());
    model_.device().Synchronize(model_.stream());
    losses.loss += SumRows({row_losses_.data(), static_cast<size_t>(rows)}, batch.rows);  // exact: multiples of one unit
  }
  return losses;
}

}  // namespace conclave::optim
