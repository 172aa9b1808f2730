// SPDX-License-Identifier: Apache-2.0
// One optimizer step, from a batch to metrics: micro-batches forward and backward, norm, clip, AdamW, router bias. The state
// is what checkpoints hold; everything else follows from (config, step).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/config.h"
#include "core/model/batch.h"
#include "core/model/model.h"

namespace conclave::optim {

struct StepMetrics {
  int64_t step = 0;            // 1 is the first
  double loss = 0;             // mean cross entropy of the next token, nats
  double mtp_loss = 0;         // sum over depths of cross entropies / labels of `loss`; mean over depths
  double balance_loss = 0;     // sum over MoE blocks of the mean over rows, unscaled
  double total_loss = 0;       // what the gradient is of
  double grad_norm = 0;        // before clipping
  double lr = 0;
  int64_t tokens = 0;          // rows x length
  bool finite = true;          // false: the step was void and changed nothing
  double load_imbalance = 0;   // largest expert load / mean, worst block; 0 without experts
};

// Rows of step `step` (1, 2, ...): batch.sequences, or less during batch.ramp; whole micro-batches.
int64_t RowsOfStep(const core::BatchConfig& batch, int64_t step);
// Rows drawn before step `step`.
int64_t PositionOfStep(const core::BatchConfig& batch, int64_t step);

class Trainer {
 public:
  // `model` was created for training.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(core::Model& model, const core::Config& config);

  // One optimizer step. A void one (a loss or gradient that is not finite or out of range) changes no weight, moment, average
  // or bias. batch.rows <= batch.sequences of the config.
  StepMetrics Step(const core::Batch& batch, int64_t step);

  // Forward and backward without an update: gradients stay in the parameters' sums. For verification.
  void Backward(const core::Batch& batch);
  void ClearGradients();
  // Sets the moving average to the weights; at the start of a run, not of a resumed one.
  void StartEma();

  struct Losses {
    double loss = 0;         // sum of cross entropies over labels, nats
    int64_t num_labels = 0;
  };
  // Forward only.
  Losses Evaluate(const core::Batch& batch);

  const core::PassMemory& planned_memory() const { return runner_->planned(); }
  core::PassMemory measured_memory() const { return runner_->measured(); }
  bool MeasuredAsPlanned() const { return runner_->MeasuredAsPlanned(); }
  core::PassRunner& runner() { return *runner_; }

 private:
  Trainer(core::Model& model, const core::Config& config) : model_(model), config_(config) {}
  core::PassShape Shape(core::PassMode mode, int64_t rows) const;
  void RunMicroBatches(const core::Batch& batch, const core::LossWeights& weights);
  double GradientNorm();
  void Update(double grad_norm, double lr, int64_t step);
  void ReadStatistics(const core::Batch& batch, StepMetrics& metrics);
  int64_t MicroRows() const;
  core::LossWeights Weights(int64_t num_labels) const;

  core::Model& model_;
  const core::Config config_;
  std::unique_ptr<core::PassRunner> runner_;
  std::unique_ptr<core::DeviceBuffer> step_memory_;
  core::StepStatistics statistics_;
  core::Tensor limbs_;  // i64 [3]
  std::vector<double> row_losses_;  // statistics on the host, kept from step to step
  std::vector<int64_t> load_;
};

}  // namespace conclave::optim
