// SPDX-License-Identifier: Apache-2.0
// One optimizer step, from a batch to metrics: micro-batches forward and backward, norm, clip, AdamW, router bias. The
// state is what checkpoints hold; everything else follows from (config, step).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

#include "core/base/trace.h"
#include "core/config/config.h"
#include "core/model/batch.h"
#include "core/model/model.h"
#include "optim/policy_metrics.h"
#include "optim/router_replay.h"
#include "parallel/executor.h"
#include "parallel/grad_sync.h"
#include "parallel/layout.h"

namespace conclave::optim {

struct StepMetrics {
  int64_t step = 0;         // 1 is the first
  double loss = 0;          // mean cross entropy of the next token, nats
  double mtp_loss = 0;      // sum over depths of cross entropies / labels of `loss`; mean over depths
  double balance_loss = 0;  // sum over MoE blocks of the mean over rows, unscaled
  double total_loss = 0;    // what the gradient is of
  double grad_norm = 0;     // before clipping
  double lr = 0;
  int64_t tokens = 0;                   // rows x length
  bool finite = true;                   // false: the step was void and changed nothing
  int stop_reason = 0;                  // greatest answer to AskForStop; 0: none
  double load_imbalance = 0;            // largest expert load / mean, worst block; 0 without experts
  int64_t replayed = 0;                 // choices of experts that were replayed, one of each token and MoE block
  int64_t flips = 0;                    // of these, which would be another without replay
  std::optional<PolicyMetrics> policy;  // of a batch that a policy learns from; its loss is then part of total_loss
  // With a teacher: mean divergence from it over labels, nats; then it is part of total_loss, and no other head's loss.
  std::optional<double> teacher_kl;
};

// Rows of step `step` (1, 2, ...): batch.sequences, or less during batch.ramp; whole micro-batches.
int64_t RowsOfStep(const core::BatchConfig& batch, int64_t step);
// Rows of all batches of a run, each number once, largest first.
std::vector<int64_t> BatchRows(const core::BatchConfig& batch);
// Rows drawn before step `step`.
int64_t PositionOfStep(const core::BatchConfig& batch, int64_t step);

inline constexpr int kMaxStopReason = 2;

class Trainer {
 public:
  // `model` was created for training, with what the layout says of it. `teacher_hidden`: width of the states of a
  // teacher that it may learn from; 0: none.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(core::Model& model, const core::Config& config,
                                                         const parallel::Layout& layout, int64_t teacher_hidden = 0);
  // On one rank alone.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(core::Model& model, const core::Config& config);

  // The following are collective over the ranks of the layout, and their results the same on each.

  // One optimizer step. A void one (a loss or gradient that is not finite or out of range) changes no weight, moment,
  // average or bias. batch.rows <= batch.sequences of the config.
  // With `replay` it records to which experts tokens go, or sends them where a batch of the same rows has sent them.
  StepMetrics Step(const core::Batch& batch, int64_t step, const std::optional<ReplayUse>& replay = std::nullopt);

  // Memory for router replay of `batches` batches of up to `rows` rows over all ranks, whose choices of experts are
  // there at the same time.
  absl::Status PlanReplay(int64_t batches, int64_t rows);
  // A forward pass that keeps the choices of the present weights for a later step on the batch with this number. They
  // are those of a step on it now, to the bit.
  void RecordChoices(const core::Batch& batch, int64_t number);

  // How a policy learns from batches that have `policy`, from the next step on: one rank's choice must be that of all.
  // The temperature is that of its samples.
  void SetPolicy(const core::PolicyRule& rule, float temperature) {
    rule_ = rule;
    temperature_ = temperature;
  }

  // From the next step on the model learns from a teacher's distributions, at the places of labels, and both models'
  // logits are divided by the temperature. hidden [rows of this rank, length, D'] is that of the batch of each step, on
  // ranks with the loss; else it is empty.
  void SetTeacher(const core::Distillation& distillation, float temperature, core::Tensor hidden) {
    distillation_ = distillation;
    temperature_ = temperature;
    statistics_.teacher_hidden = hidden;
  }

  // Forward and backward without an update: gradients stay in the parameters' sums. For verification.
  void Backward(const core::Batch& batch);
  void ClearGradients();
  // Sets the moving average to the weights; at the start of a run, not of a resumed one.
  void StartEma();

  struct Losses {
    double loss = 0;  // sum of cross entropies over labels, nats
    int64_t num_labels = 0;
  };
  // Forward only, as cross entropy, logits being divided by the temperature.
  Losses Evaluate(const core::Batch& batch, float temperature = 1);

  core::PassMemory planned_memory() const { return executor_->planned(); }
  core::PassMemory measured_memory() const { return executor_->measured(); }
  int64_t activation_bytes() const { return executor_->activation_bytes(); }
  int64_t replay_bytes() const { return replay_ ? replay_->bytes() : 0; }
  bool MeasuredAsPlanned() const { return executor_->MeasuredAsPlanned(); }  // on this rank
  parallel::Executor& executor() { return *executor_; }
  // Tokens of each expert over all ranks and all steps of this trainer, [MoE blocks, experts].
  std::span<const int64_t> expert_load() const { return expert_load_; }
  // Weights were set from outside: all ranks' masters, panels and rounded copies follow.
  void Refresh();
  // Shows each master of which this rank keeps rows alone, whole; as the others' they are saved as weights.
  void VisitCutMasters(absl::FunctionRef<void(const core::Param&, core::Tensor)> visit) {
    sync_.VisitCutMasters(visit);
  }
  // Asked at the end of each step's passes on every rank: whether to stop, and why, up to kMaxStopReason; 0: go on. The
  // greatest answer of all ranks is in the metrics of the step.
  void AskForStop(std::function<int()> stop_reason) { stop_reason_ = std::move(stop_reason); }

 private:
  Trainer(core::Model& model, const core::Config& config, const parallel::Layout& layout)
      : model_(model),
        config_(config),
        layout_(layout),
        trace_(layout.executor_options().trace),
        sync_(model, layout.holders()) {}
  absl::Status AllocateStatistics(int64_t rows, int64_t teacher_hidden);
  void ZeroStatistics();
  void RunMicroBatches(const core::Batch& batch, const core::RouterChoices& choices = {});
  // Of a pass over the batch; empty where it does not replay.
  core::RouterChoices ChoicesOf(const core::Batch& batch, const std::optional<ReplayUse>& replay) const;
  // What ranks add up to know the step: integers, so that the order of ranks is no matter.
  void SumOverRanks(const core::Batch& batch);
  int64_t SumOfRows(const core::Tensor& per_row, int64_t index, int64_t local_rows, int64_t batch_rows);
  void SumPolicyRows(int64_t local_rows, int64_t batch_rows);
  void Update(double grad_norm, double lr, int64_t step);
  void ReadMetrics(const core::Batch& batch, StepMetrics& metrics);
  void ReadFlips(StepMetrics& metrics);
  core::LossWeights Weights(const core::Batch& batch) const;

  core::Model& model_;
  const core::Config config_;
  std::unique_ptr<const parallel::Layout> own_layout_;  // of one rank alone
  const parallel::Layout& layout_;
  core::Trace* const trace_;
  parallel::GradSync sync_;
  std::unique_ptr<parallel::Executor> executor_;
  std::unique_ptr<core::DeviceBuffer> step_memory_;
  std::unique_ptr<RouterReplay> replay_;
  core::StepStatistics statistics_;
  core::Tensor limbs_;  // i64 [kNormLimbs]: of the shards of this rank
  struct Totals;
  core::Tensor totals_;             // i64 [...]: losses, norm and flags, Totals
  core::Tensor all_sums_;           // i64 [...]: load of experts, then totals_: what is added over ranks
  core::Tensor flips_;              // i64 [1]: of the tokens of this rank
  core::Tensor maxima_;             // i64 [kPolicyMaxima]: what ranks take the greatest of
  std::vector<double> row_losses_;  // on the host, kept from step to step
  std::vector<double> policy_rows_;
  std::array<int64_t, core::kPolicyMaxima> host_maxima_ = {};
  std::vector<int64_t> sums_;  // all_sums_ on the host
  std::vector<int64_t> expert_load_;
  std::span<int64_t> host_totals() { return std::span(sums_).last(totals_.Elements()); }
  std::span<int64_t> policy_totals() { return host_totals().last(kPolicyTotals); }
  core::PolicyRule rule_;
  std::optional<core::Distillation> distillation_;
  float temperature_ = 1;
  std::function<int()> stop_reason_;
};

}  // namespace conclave::optim
