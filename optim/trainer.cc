// SPDX-License-Identifier: Apache-2.0
#include "optim/trainer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

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

// Places of a step's sums in totals_, behind the load of experts.
struct Trainer::Totals {
  static constexpr int64_t kNorm = 0;                       // limbs
  static constexpr int64_t kOutOfRange = core::kNormLimbs;  // ranks with a contribution to a gradient that was
  static constexpr int64_t kBadRows = kOutOfRange + 1;      // losses of rows that were
  static constexpr int64_t kStop = kBadRows + 1;            // ranks that ask to stop, by reason
  static constexpr int64_t kZ = kStop + 1 + kMaxStopReason;
  static constexpr int64_t kTeacher = kZ + 1;
  static constexpr int64_t kFlips = kTeacher + 1;  // choices that replay has kept from changing
  static constexpr int64_t kLoss = kFlips + 1;     // by depth, then balance by MoE block, then what a policy leaves
};

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

std::vector<int64_t> BatchRows(const core::BatchConfig& batch) {
  std::set<int64_t, std::greater<>> rows = {batch.sequences};
  const int64_t ramp_steps = batch.ramp.start > 0 ? batch.ramp.steps : 0;
  for (int64_t step = 1; step <= ramp_steps; ++step) rows.insert(RowsOfStep(batch, step));
  return {rows.begin(), rows.end()};
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(core::Model& model, const core::Config& config,
                                                         const parallel::Layout& layout, int64_t teacher_hidden) {
  std::unique_ptr<Trainer> trainer(new Trainer(model, config, layout));
  parallel::ExecutorOptions options = layout.executor_options();
  options.teacher_hidden = teacher_hidden;
  ASSIGN_OR_RETURN(trainer->executor_, parallel::Executor::Create(model, layout.pipeline(), options));
  trainer->executor_->SetSink(&trainer->sync_);
  RETURN_IF_ERROR(
      trainer->AllocateStatistics(trainer->executor_->Split(config.batch.sequences).MostRows(), teacher_hidden));
  if (layout.all().size() > 1) trainer->Refresh();  // weights may be there already
  return trainer;
}

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(core::Model& model, const core::Config& config) {
  const std::unique_ptr<parallel::Comm> alone = parallel::MakeSelfComm();
  core::Config one_rank = config;
  one_rank.parallel = {};
  ASSIGN_OR_RETURN(std::unique_ptr<parallel::Layout> layout,
                   parallel::Layout::Create(one_rank, model.config(), BatchRows(config.batch), *alone, 1));
  ASSIGN_OR_RETURN(std::unique_ptr<Trainer> trainer, Create(model, one_rank, *layout));
  trainer->own_layout_ = std::move(layout);
  return trainer;
}

absl::Status Trainer::AllocateStatistics(int64_t rows, int64_t teacher_hidden) {
  const int64_t depth = model_.config().num_nextn_predict_layers, experts = model_.config().n_routed_experts;
  const int64_t moe_blocks = static_cast<int64_t>(core::MoeLayers(model_.config()).size());
  const bool learns_policy = layout_.executor_options().policy != core::PolicyInputs::kNone;
  const int64_t num_totals = Totals::kLoss + 1 + depth + moe_blocks + (learns_policy ? kPolicyTotals : 0);
  core::Arena arena("step");
  auto allocate = [&] {
    core::StepStatistics& s = statistics_;
    s.loss = arena.Allocate(DType::kF64, {1 + depth, rows});
    s.z_sum = arena.Allocate(DType::kF64, {1, rows});
    if (teacher_hidden > 0) s.divergence = arena.Allocate(DType::kF64, {1, rows});
    if (moe_blocks > 0) s.balance_loss = arena.Allocate(DType::kF64, {moe_blocks, rows});
    if (learns_policy) {
      s.policy = arena.Allocate(DType::kF64, {rows, core::kPolicySums});
      maxima_ = arena.Allocate(DType::kI64, {core::kPolicyMaxima});
    }
    const Tensor sums = arena.Allocate(DType::kI64, {moe_blocks * experts + num_totals});
    if (moe_blocks > 0) s.load = sums.Slice(0, 0, moe_blocks * experts).Reshape({moe_blocks, experts});
    totals_ = sums.Slice(0, moe_blocks * experts, num_totals);
    limbs_ = totals_.Slice(0, Totals::kNorm, core::kNormLimbs);
    flips_ = totals_.Slice(0, Totals::kFlips, 1);
    all_sums_ = sums;
  };
  allocate();
  ASSIGN_OR_RETURN(step_memory_, model_.device().Allocate(arena.peak(), "step statistics"));
  const int64_t bytes = arena.peak();
  arena.Reset();
  arena.Attach(step_memory_->data(), bytes);
  allocate();
  row_losses_.resize(rows);
  policy_rows_.resize(statistics_.policy.Elements());
  sums_.resize(all_sums_.Elements());
  expert_load_.resize(moe_blocks * experts);
  return absl::OkStatus();
}

// Rows that this rank does not compute keep their zero: each is counted once over all ranks.
void Trainer::ZeroStatistics() {
  core::Kernels& kernels = model_.kernels();
  for (const Tensor& tensor : {statistics_.loss, statistics_.z_sum, statistics_.divergence, statistics_.balance_loss,
                               statistics_.policy, all_sums_}) {
    if (tensor) kernels.Zero(tensor);
  }
  kernels.Zero(model_.params().flag());
}

void Trainer::RunMicroBatches(const core::Batch& batch, const core::RouterChoices& choices) {
  // The config of a trainer says whether policies learn with it: memory for them is planned.
  CHECK(!batch.policy || statistics_.policy);
  core::StepStatistics statistics = statistics_;
  statistics.choices = choices;
  executor_->Train(batch, Weights(batch), statistics, [this](const core::Stage& stage) { sync_.BeginReduce(stage); });
}

absl::Status Trainer::PlanReplay(int64_t batches, int64_t rows) {
  const int64_t length = layout_.executor_options().length;
  ASSIGN_OR_RETURN(replay_, RouterReplay::Create(model_, batches, executor_->Split(rows).MostRows(), length));
  return absl::OkStatus();
}

core::RouterChoices Trainer::ChoicesOf(const core::Batch& batch, const std::optional<ReplayUse>& replay) const {
  if (!replay) return {};
  CHECK(replay_ != nullptr);
  core::RouterChoices choices = replay_->Choices(*replay, executor_->Split(batch.rows).Rows(layout_.place().data));
  if (replay->use == core::RouterChoices::Use::kReplay) choices.flips = flips_;
  return choices;
}

void Trainer::RecordChoices(const core::Batch& batch, int64_t number) {
  core::StepStatistics choices_alone;
  choices_alone.choices = ChoicesOf(batch, ReplayUse{core::RouterChoices::Use::kRecord, number});
  executor_->Evaluate(batch, 1, choices_alone);
}

// Losses of this rank's rows as integers of one unit. One that is so large that a sum of batch_rows such could leave
// the range, or is not a number, counts as out of range instead.
int64_t Trainer::SumOfRows(const Tensor& per_row, int64_t index, int64_t local_rows, int64_t batch_rows) {
  if (local_rows == 0) return 0;
  model_.device().CopyToHost(model_.stream(), per_row.Slice(0, index, 1).Slice(1, 0, local_rows), row_losses_.data());
  model_.device().Synchronize(model_.stream());
  int64_t sum = 0;
  for (int64_t row = 0; row < local_rows; ++row) {
    const double loss = row_losses_[row];
    if (std::fabs(loss) < core::kLossRange / static_cast<double>(batch_rows)) {
      sum += core::LossToFixed(loss);
    } else {
      ++host_totals()[Totals::kBadRows];
    }
  }
  return sum;
}

void Trainer::SumPolicyRows(int64_t local_rows, int64_t batch_rows) {
  const std::span<double> rows = std::span(policy_rows_).first(local_rows * core::kPolicySums);
  if (local_rows > 0) {
    model_.device().CopyToHost(model_.stream(), statistics_.policy.Slice(0, 0, local_rows), rows.data());
    model_.device().Synchronize(model_.stream());
  }
  host_maxima_.fill(0);
  host_totals()[Totals::kBadRows] += AddPolicyRows(rows, batch_rows, policy_totals(), host_maxima_);
}

void Trainer::SumOverRanks(const core::Batch& batch) {
  const int64_t local_rows = executor_->Split(batch.rows).Rows(layout_.place().data), batch_rows = batch.rows;
  core::Device& device = model_.device();
  int32_t out_of_range = 0;
  device.CopyToHost(model_.stream(), model_.params().flag(), &out_of_range);
  device.CopyToHost(model_.stream(), all_sums_, sums_.data());
  device.Synchronize(model_.stream());
  const std::span<int64_t> totals = host_totals();
  totals[Totals::kOutOfRange] = out_of_range;
  totals[Totals::kStop + (stop_reason_ ? stop_reason_() : 0)] = 1;
  totals[Totals::kZ] = SumOfRows(statistics_.z_sum, 0, local_rows, batch_rows);
  if (distillation_) totals[Totals::kTeacher] = SumOfRows(statistics_.divergence, 0, local_rows, batch_rows);
  int64_t next = Totals::kLoss;
  for (const Tensor& losses : {statistics_.loss, statistics_.balance_loss}) {
    for (int64_t i = 0; losses && i < losses.size(0); ++i)
      totals[next++] = SumOfRows(losses, i, local_rows, batch_rows);
  }
  parallel::Comm& all = layout_.all();
  if (batch.policy && statistics_.policy) {
    SumPolicyRows(local_rows, batch_rows);
    device.CopyToDevice(model_.stream(), host_maxima_.data(), maxima_);
    all.Wait(model_.stream(), all.AllReduce(model_.stream(), maxima_, parallel::Reduction::kMax));
    device.CopyToHost(model_.stream(), maxima_, host_maxima_.data());
  }
  device.CopyToDevice(model_.stream(), sums_.data(), all_sums_);
  all.Wait(model_.stream(), all.AllReduce(model_.stream(), all_sums_, parallel::Reduction::kSum));
  device.CopyToHost(model_.stream(), all_sums_, sums_.data());
  device.Synchronize(model_.stream());
}

void Trainer::Update(double grad_norm, double lr, int64_t step) {
  const core::TraceScope scope(trace_, "step", "update");
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
    args.gradient = param->ShardGradient();
    args.weight_decay = param->spec.kind == ParamKind::kVector ? 0.0f : static_cast<float>(optim.weight_decay);
    args.master = param->ShardMaster();
    args.m = param->m;
    args.v = param->v;
    kernels.AdamW(args);
  }
  const float bias_speed = static_cast<float>(config_.moe.bias_update_speed);
  for (const auto& stage : model_.stages()) {
    for (const core::Stage::MoeBlock& block : stage->moe_blocks()) {
      const Param* const bias = block.moe->router().bias();
      if (!bias || bias_speed == 0) continue;
      kernels.UpdateRouterBias(statistics_.load.Slice(0, block.index, 1).MergeFirst(), bias_speed, bias->master);
    }
  }
  for (const auto& param : model_.params().params()) {
    if (param->ema) kernels.Ema(param->ShardMaster(), static_cast<float>(optim.ema), param->ema);
  }
  Refresh();
}

void Trainer::Refresh() {
  {
    const core::TraceScope gather(trace_, "step", "gather");
    sync_.GatherMasters();
  }
  model_.Refresh();
}

void Trainer::ReadMetrics(const core::Batch& batch, StepMetrics& metrics) {
  const std::span<const int64_t> totals = host_totals();
  const int64_t depth = model_.config().num_nextn_predict_layers;
  const double labels = static_cast<double>(std::max<int64_t>(batch.num_labels, 1));
  const bool in_range = totals[Totals::kOutOfRange] == 0, rows_are_good = totals[Totals::kBadRows] == 0;
  metrics.finite = in_range && rows_are_good;
  metrics.grad_norm = in_range ? std::sqrt(core::NormLimbsToDouble(totals.data() + Totals::kNorm)) : std::nan("");
  metrics.finite = metrics.finite && std::isfinite(metrics.grad_norm);
  for (int reason = 1; reason <= kMaxStopReason; ++reason) {
    if (totals[Totals::kStop + reason] > 0) metrics.stop_reason = reason;
  }
  metrics.loss = core::FixedToLoss(totals[Totals::kLoss]) / labels;
  const int64_t predicted = config_.moe.mtp_weight != 0 ? depth : 0;
  for (int64_t k = 1; k <= predicted; ++k) {
    metrics.mtp_loss += core::FixedToLoss(totals[Totals::kLoss + k]) / labels / static_cast<double>(depth);
  }
  const double z = core::FixedToLoss(totals[Totals::kZ]) / labels;
  if (batch.policy) metrics.policy = ReadPolicyTotals(policy_totals(), host_maxima_);
  if (distillation_) metrics.teacher_kl = core::FixedToLoss(totals[Totals::kTeacher]) / labels;
  metrics.total_loss = metrics.teacher_kl ? *metrics.teacher_kl : metrics.policy ? metrics.policy->loss : metrics.loss;
  metrics.total_loss += config_.moe.mtp_weight * metrics.mtp_loss;
  if (!metrics.policy && !metrics.teacher_kl) metrics.total_loss += config_.optim.z_loss * z;
  const int64_t blocks = statistics_.load ? statistics_.load.size(0) : 0;
  const int64_t experts = model_.config().n_routed_experts;
  for (int64_t b = 0; b < blocks; ++b) {
    metrics.balance_loss += core::FixedToLoss(totals[Totals::kLoss + 1 + depth + b]) / static_cast<double>(batch.rows);
    const std::span<const int64_t> load = std::span<const int64_t>(sums_).subspan(b * experts, experts);
    const int64_t largest = *std::max_element(load.begin(), load.end());
    const int64_t total = std::accumulate(load.begin(), load.end(), int64_t{0});
    if (total == 0) continue;
    const double ratio = static_cast<double>(largest) * static_cast<double>(experts) / static_cast<double>(total);
    metrics.load_imbalance = std::max(metrics.load_imbalance, ratio);
  }
  metrics.total_loss += config_.moe.balance_loss * metrics.balance_loss;
  if (!rows_are_good) metrics.loss = metrics.total_loss = std::nan("");
}

// Each token that a block has routed was counted for every expert it went to.
void Trainer::ReadFlips(StepMetrics& metrics) {
  const core::ModelConfig& model = model_.config();
  int64_t blocks = 0;  // those of multi-token prediction follow them
  for (int64_t layer = 0; layer < model.num_hidden_layers; ++layer) blocks += model.IsMoe(layer);
  const auto load = std::span<const int64_t>(sums_).first(static_cast<size_t>(blocks * model.n_routed_experts));
  metrics.replayed = std::accumulate(load.begin(), load.end(), int64_t{0}) / model.num_experts_per_tok;
  metrics.flips = host_totals()[Totals::kFlips];
}

StepMetrics Trainer::Step(const core::Batch& batch, int64_t step, const std::optional<ReplayUse>& replay) {
  CHECK_LE(batch.rows, config_.batch.sequences);
  const core::TraceScope scope(trace_, "step", "step");
  StepMetrics metrics{.step = step};
  metrics.lr = LearningRate(config_.optim, step, config_.train.steps);
  metrics.tokens = batch.rows * batch.length;
  ZeroStatistics();
  RunMicroBatches(batch, ChoicesOf(batch, replay));
  {
    const core::TraceScope reduce(trace_, "step", "reduce");
    sync_.EndReduce();
  }
  for (const auto& param : model_.params().params()) {
    if (param->sum) model_.kernels().SumSquares(param->ShardGradient(), limbs_);
  }
  SumOverRanks(batch);
  ReadMetrics(batch, metrics);
  if (replay && replay->use == core::RouterChoices::Use::kReplay) ReadFlips(metrics);
  for (size_t i = 0; i < expert_load_.size(); ++i) expert_load_[i] += sums_[i];
  if (metrics.finite) {
    Update(metrics.grad_norm, metrics.lr, step);
  } else {
    ClearGradients();
  }
  return metrics;
}

core::LossWeights Trainer::Weights(const core::Batch& batch) const {
  const int64_t depth = std::max<int64_t>(model_.config().num_nextn_predict_layers, 1);
  return {.label_scale = batch.num_labels > 0 ? static_cast<float>(1.0 / static_cast<double>(batch.num_labels)) : 0.0f,
          .mtp = static_cast<float>(config_.moe.mtp_weight / static_cast<double>(depth)),
          .balance = static_cast<float>(config_.moe.balance_loss),
          .z_loss = distillation_ ? 0 : static_cast<float>(config_.optim.z_loss),
          .temperature = batch.policy || distillation_ ? temperature_ : 1,
          .rule = rule_,
          .policy_pass = batch.policy ? batch.policy->pass : core::PolicyPass::kOffPolicy,
          .distillation = distillation_.value_or(core::Distillation{})};
}

void Trainer::Backward(const core::Batch& batch) {
  ZeroStatistics();
  RunMicroBatches(batch);
  sync_.EndReduce();
}

void Trainer::ClearGradients() {
  for (const auto& param : model_.params().params()) {
    if (param->sum) model_.kernels().Zero(param->sum);
    if (param->shard_sum) model_.kernels().Zero(param->shard_sum);
  }
}

void Trainer::StartEma() {
  for (const auto& param : model_.params().params()) {
    if (param->ema) model_.kernels().Cast(param->ShardMaster(), param->ema);
  }
}

Trainer::Losses Trainer::Evaluate(const core::Batch& batch, float temperature) {
  ZeroStatistics();
  core::StepStatistics statistics = statistics_;
  statistics.balance_loss = {};
  statistics.load = {};
  executor_->Evaluate(batch, temperature, statistics);
  SumOverRanks(batch);
  const std::span<const int64_t> totals = host_totals();
  const double loss = totals[Totals::kBadRows] == 0 ? core::FixedToLoss(totals[Totals::kLoss]) : std::nan("");
  return {.loss = loss, .num_labels = batch.num_labels};
}

}  // namespace conclave::optim
