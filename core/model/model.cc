// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace conclave::core {

TrainingState TrainingStateOf(const Config& config) {
  return {.gradients = config.exact ? DType::kI64 : DType::kF32,
          .moments = config.optim.moments == "bf16" ? DType::kBf16 : DType::kF32,
          .ema = config.optim.ema > 0};
}

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const ModelConfig& config, Device& device,
                                                     const Options& options) {
  CHECK(options.cache == CacheKind::kExpanded || config.HasMla());
  std::unique_ptr<Model> model(new Model(device));
  const DType dtype = ComputeDType(options.precision);
  model->stream_ = device.CreateStream();
  model->kernels_ = device.CreateKernels(*model->stream_);
  if (options.profile) {
    model->kernels_ = std::make_unique<ProfilingKernels>(std::move(model->kernels_), *options.profile);
  }
  const std::vector<StagePart> whole = {StagePart::Whole(config)};
  for (const StagePart& part : options.parts.empty() ? whole : options.parts) {
    model->stages_.push_back(
        std::make_unique<Stage>(config, model->params_, dtype, part, options.make_exchange, options.cache));
  }
  if (options.shard) options.shard(model->params_);
  model->max_positions_ = options.max_positions > 0 ? options.max_positions : config.max_position_embeddings;
  RETURN_IF_ERROR(model->params_.Allocate(device, *model->kernels_, dtype, options.purpose, options.training));
  for (auto& stage : model->stages_) RETURN_IF_ERROR(stage->Prepare(device, *model->stream_, model->max_positions_));
  return model;
}

PolicyInputs InputsOf(const Batch& batch) {
  if (!batch.policy) return PolicyInputs::kNone;
  return batch.policy->reference_log_probs.empty() ? PolicyInputs::kSampled : PolicyInputs::kSampledAndReference;
}

namespace {

// From the batch as it is: its rows are there, none is beyond its end.
void FillPolicy(Device& device, Stream& stream, const Batch& batch, int64_t begin, const PolicyTensors& policy) {
  const PolicyTargets& targets = *batch.policy;
  const int64_t first = begin * batch.length, count = policy.sequences.Elements();
  if (count == 0) return;
  CHECK_LE(begin + policy.sequences.size(0), batch.rows);
  const auto copy = [&](const auto& host, const Tensor& to) {
    CHECK_EQ(static_cast<int64_t>(host.size()), batch.rows * batch.length);
    device.CopyToDevice(stream, host.data() + first, to);
  };
  copy(targets.old_log_probs, policy.old_log_probs);
  copy(targets.advantages, policy.advantages);
  copy(targets.weights, policy.weights);
  copy(targets.sequences, policy.sequences);
  if (policy.reference_log_probs) copy(targets.reference_log_probs, policy.reference_log_probs);
}

}  // namespace

void TokenFeeder::Fill(Device& device, Stream& stream, const Batch& batch, int64_t begin, StagePass& pass) {
  pass.batch_rows = batch.rows;
  pass.key_index = {};
  row_offsets_.resize(pass.rows + 1);
  for (int64_t row = 0; row <= pass.rows; ++row) row_offsets_[row] = static_cast<int32_t>(row * pass.length);
  device.CopyToDevice(stream, row_offsets_.data(), pass.row_offsets);
  for (size_t shift = 0; shift < pass.shifted.size(); ++shift) {
    ShiftTokens(batch, begin, pass.rows, static_cast<int64_t>(shift), staged_);
    device.CopyToDevice(stream, staged_.tokens.data(), pass.shifted[shift].tokens);
    device.CopyToDevice(stream, staged_.positions.data(), pass.shifted[shift].positions);
    device.CopyToDevice(stream, staged_.labels.data(), pass.shifted[shift].labels);
    device.Synchronize(stream);  // the staging memory is written again
  }
  if (pass.policy) FillPolicy(device, stream, batch, begin, pass.policy);
}

absl::StatusOr<std::unique_ptr<PassRunner>> PassRunner::Create(Model& model, const std::vector<PassShape>& shapes) {
  std::unique_ptr<PassRunner> runner(new PassRunner(model));
  for (const PassShape& shape : shapes) {
    runner->known_.push_back({shape, PlanPass(model.stage(), model.device(), model.stream(), model.kernels(), shape)});
    runner->planned_.CoverAlso(runner->known_.back().second);
  }
  const PassMemory& plan = runner->planned_;
  ASSIGN_OR_RETURN(runner->memory_, model.device().Allocate(std::max<int64_t>(plan.Total(), 1), "activations"));
  char* memory = static_cast<char*>(runner->memory_->data());
  for (auto [arena, bytes] :
       {std::pair{&runner->pass_.until_input_grad, plan.until_input_grad},
        std::pair{&runner->pass_.until_weight_grad, plan.until_weight_grad},
        std::pair{&runner->pass_.until_block_end, plan.until_block_end}, std::pair{&runner->scratch_, plan.scratch}}) {
    arena->Attach(memory, bytes);
    memory += bytes;
  }
  return runner;
}

void PassRunner::Begin(const Batch& batch, int64_t begin, const PassShape& shape) {
  CHECK_EQ(batch.length, shape.length);
  CHECK(pass_.tasks.tasks().empty());
  pass_.Reset();
  AllocateTokens(pass_, shape, model_.config().num_nextn_predict_layers);
  feeder_.Fill(model_.device(), model_.stream(), batch, begin, pass_);
  for (const auto& [planned_shape, memory] : known_) {
    if (planned_shape == shape) {
      planned_so_far_.CoverAlso(memory);
      return;
    }
  }
  known_.push_back({shape, PlanPass(model_.stage(), model_.device(), model_.stream(), model_.kernels(), shape)});
  planned_so_far_.CoverAlso(known_.back().second);
}

PassMemory PassRunner::measured() const {
  return {.until_input_grad = pass_.until_input_grad.peak(),
          .until_weight_grad = pass_.until_weight_grad.peak(),
          .until_block_end = pass_.until_block_end.peak(),
          .scratch = scratch_.peak()};
}

}  // namespace conclave::core
