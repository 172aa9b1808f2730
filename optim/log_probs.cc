// SPDX-License-Identifier: Apache-2.0
#include "optim/log_probs.h"

#include <algorithm>
#include <bit>

#include "core/base/status_macros.h"

namespace conclave::optim {

using core::DType;

absl::StatusOr<std::unique_ptr<LogProbs>> LogProbs::Create(core::Model& model, const parallel::Layout& layout,
                                                           int64_t max_rows) {
  std::unique_ptr<LogProbs> out(new LogProbs(model, layout));
  parallel::ExecutorOptions options = layout.executor_options();
  options.use = parallel::ExecutorUse::kForward;
  ASSIGN_OR_RETURN(out->executor_, parallel::Executor::Create(model, layout.pipeline(), options));
  RETURN_IF_ERROR(out->Allocate(max_rows));
  return out;
}

absl::Status LogProbs::Allocate(int64_t max_rows) {
  const int64_t length = layout_.executor_options().length, rows = executor_->Split(max_rows).MostRows();
  core::Arena arena("log-probabilities");
  const auto allocate = [&] {
    loss_ = arena.Allocate(DType::kF64, {1, rows});
    log_probs_ = arena.Allocate(DType::kF32, {rows, length});
    all_bits_ = arena.Allocate(DType::kI64, {max_rows, length});
  };
  allocate();
  const int64_t bytes = arena.peak();
  ASSIGN_OR_RETURN(memory_, model_.device().Allocate(bytes, "log-probabilities"));
  arena.Reset();
  arena.Attach(memory_->data(), bytes);
  allocate();
  local_.resize(log_probs_.Elements());
  bits_.resize(all_bits_.Elements());
  return absl::OkStatus();
}

void LogProbs::Compute(const core::Batch& batch, float temperature, std::span<float> out) {
  CHECK_LE(batch.rows, all_bits_.size(0));
  CHECK_EQ(static_cast<int64_t>(out.size()), batch.rows * batch.length);
  const int64_t rows = executor_->Split(batch.rows).Rows(layout_.place().data);
  model_.kernels().Zero(log_probs_);  // rows that another rank of the pipeline computes
  const core::StepStatistics statistics{.loss = loss_.Slice(1, 0, rows),
                                        .z_sum = {},
                                        .balance_loss = {},
                                        .load = {},
                                        .log_probs = log_probs_.Slice(0, 0, rows)};
  executor_->Evaluate(batch, temperature, statistics);
  GatherRows(batch, out);
}

void LogProbs::GatherRows(const core::Batch& batch, std::span<float> out) {
  core::Device& device = model_.device();
  core::Stream& stream = model_.stream();
  const parallel::BatchSplit split = executor_->Split(batch.rows);
  const int64_t rank = layout_.place().data, first = split.Begin(rank) * batch.length;
  const int64_t count = split.Rows(rank) * batch.length, total = batch.rows * batch.length;
  if (count > 0) device.CopyToHost(stream, log_probs_.Slice(0, 0, split.Rows(rank)), local_.data());
  device.Synchronize(stream);
  std::fill_n(bits_.begin(), total, 0);
  for (int64_t i = 0; i < count; ++i) bits_[first + i] = std::bit_cast<uint32_t>(local_[i]);
  parallel::Comm& all = layout_.all();
  if (all.size() > 1 && total > 0) {
    const core::Tensor sums = all_bits_.Slice(0, 0, batch.rows);
    device.CopyToDevice(stream, bits_.data(), sums);
    all.Wait(stream, all.AllReduce(stream, sums, parallel::Reduction::kSum));
    device.CopyToHost(stream, sums, bits_.data());
    device.Synchronize(stream);
  }
  for (int64_t i = 0; i < total; ++i) out[i] = std::bit_cast<float>(static_cast<uint32_t>(bits_[i]));
}

}  // namespace conclave::optim
