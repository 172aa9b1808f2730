// SPDX-License-Identifier: Apache-2.0
#include "optim/teacher.h"

#include "core/base/status_macros.h"

namespace conclave::optim {

absl::StatusOr<std::unique_ptr<Teacher>> Teacher::Create(core::Model& model, const parallel::Layout& layout,
                                                         int64_t max_rows) {
  std::unique_ptr<Teacher> teacher(new Teacher(model, layout));
  parallel::ExecutorOptions options = layout.executor_options();
  options.use = parallel::ExecutorUse::kForward;
  ASSIGN_OR_RETURN(teacher->executor_, parallel::Executor::Create(model, layout.pipeline(), options));
  if (teacher->LossStage() == nullptr) return teacher;
  const int64_t rows = teacher->executor_->Split(max_rows).MostRows(), hidden = model.config().hidden_size;
  const int64_t bytes = rows * options.length * hidden * core::SizeOf(model.dtype());
  ASSIGN_OR_RETURN(teacher->memory_, model.device().Allocate(bytes, "hidden states of the teacher"));
  teacher->hidden_ = core::Tensor(teacher->memory_->data(), model.dtype(), {rows, options.length, hidden});
  return teacher;
}

const core::Stage* Teacher::LossStage() const {
  for (const auto& stage : model_.stages()) {
    if (stage->part().loss) return stage.get();
  }
  return nullptr;
}

void Teacher::Compute(const core::Batch& batch) {
  core::StepStatistics statistics{};
  if (hidden_) {
    statistics.hidden = hidden_.Slice(0, 0, executor_->Split(batch.rows).Rows(layout_.place().data));
  }
  executor_->Evaluate(batch, 1, statistics);
  model_.device().Synchronize(model_.stream());  // the student reads on a stream of its own
}

core::PackedWeight Teacher::head() const {
  const core::Stage* const stage = LossStage();
  if (stage != nullptr) return stage->loss_unit().head();
  return {.panels = {}, .dtype = model_.dtype()};
}

}  // namespace conclave::optim
