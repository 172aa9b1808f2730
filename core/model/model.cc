// SPDX-License-Identifier: Apache-2.0
#include "core/model/model.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace conclave::core {

absl::StatusOr<std::unique_ptr<Model>> Model::Create(const ModelConfig& config, Device& device, const Options& options) {
  std::unique_ptr<Model> model(new Model(device));
  const DType dtype = ComputeDType(options.precision);
  model->stream_ = device.CreateStream();
  model->kernels_ = device.CreateKernels(*model->stream_);
  if (options.profile) {
    model->kernels_ = std::make_unique<ProfilingKernels>(std::move(model->kernels_), *options.profile);
  }
  model->stage_ = std::make_unique<Stage>(config, model->params_, dtype);
  model->max_positions_ = options.max_positions > 0 ? options.max_positions : config.max_position_embeddings;
  RETURN_IF_ERROR(model->params_.Allocate(device, *model->kernels_, dtype, options.purpose, options.with_ema));
  RETURN_IF_ERROR(model->stage_->Prepare(device, *model->stream_, model->max_positions_));
  return model;
}

absl::StatusOr<std::unique_ptr<PassRunner>> PassRunner::Create(Model& model, const std::vector<PassShape>& shapes) {
  std::unique_ptr<PassRunner> runner(new PassRunner(model));
  for (const PassShape& shape : shapes) {
    runner->known_.push_back({shape, PlanPass(model.stage(), model.kernels(), shape)});
    runner->planned_.CoverAlso(runner->known_.back().second);
  }
  const PassMemory& plan = runner->planned_;
  ASSIGN_OR_RETURN(runner->memory_, model.device().Allocate(std::max<int64_t>(plan.Total(), 1), "activations"));
  char* memory = static_cast<char*>(runner->memory_->data());
  for (auto [arena, bytes] : {std::pair{&runner->pass_.until_input_grad, plan.until_input_grad},
                              std::pair{&runner->pass_.until_weight_grad, plan.until_weight_grad},
                              std::pair{&runner->pass_.until_block_end, plan.until_block_end},
                              std::pair{&runner->scratch_, plan.scratch}}) {
    arena->Attach(memory, bytes);
    memory += bytes;
  }
  return runner;
}

void PassRunner::Begin(const Batch& batch, int64_t begin, const PassShape& shape) {
  CHECK_EQ(batch.length, shape.length);
  CHECK(pass_.tasks.tasks().empty());
  pass_.Reset();
  AllocateTokens(pass_, shape, model_.stage().loss_unit().depth());
  pass_.batch_rows = batch.rows;
  pass_.key_index = {};
  row_offsets_.resize(shape.rows + 1);
  for (int64_t row = 0; row <= shape.rows; ++row) row_offsets_[row] = static_cast<int32_t>(row * shape.length);
  Device& device = model_.device();
  device.CopyToDevice(model_.stream(), row_offsets_.data(), pass_.row_offsets);
  for (size_t shift = 0; shift < pass_.shifted.size(); ++shift) {
    ShiftTokens(batch, begin, shape.rows, static_cast<int64_t>(shift), staged_);
    device.CopyToDevice(model_.stream(), staged_.tokens.data(), pass_.shifted[shift].tokens);
    device.CopyToDevice(model_.stream(), staged_.positions.data(), pass_.shifted[shift].positions);
    device.CopyToDevice(model_.stream(), staged_.labels.data(), pass_.shifted[shift].labels);
    device.Synchronize(model_.stream());  // the staging memory is written again
  }
  for (const auto& [planned_shape, memory] : known_) {
    if (planned_shape == shape) {
      planned_so_far_.CoverAlso(memory);
      return;
    }
  }
  known_.push_back({shape, PlanPass(model_.stage(), model_.kernels(), shape)});
  planned_so_far_.CoverAlso(known_.back().second);
}

PassMemory PassRunner::measured() const {
  return {.until_input_grad = pass_.until_input_grad.peak(),
          .until_weight_grad = pass_.until_weight_grad.peak(),
          .until_block_end = pass_.until_block_end.peak(),
          .scratch = scratch_.peak()};
}

}  // namespace conclave::core
