// SPDX-License-Identifier: Apache-2.0
#include "optim/router_replay.h"

#include "core/base/status_macros.h"

namespace conclave::optim {

absl::StatusOr<std::unique_ptr<RouterReplay>> RouterReplay::Create(core::Model& model, int64_t batches, int64_t rows,
                                                                   int64_t length) {
  std::unique_ptr<RouterReplay> out(new RouterReplay());
  for (const auto& stage : model.stages()) out->blocks_ += stage->num_body_moe_blocks();
  core::Tensor& experts = out->experts_;
  experts = core::Tensor(nullptr, core::DType::kI32,
                         {batches * out->blocks_, rows, length, model.config().num_experts_per_tok});
  ASSIGN_OR_RETURN(out->memory_, model.device().Allocate(experts.Bytes(), "choices of experts"));
  experts.data = out->memory_->data();
  return out;
}

core::RouterChoices RouterReplay::Choices(const ReplayUse& use, int64_t rows) const {
  return {.use = use.use, .experts = experts_.Slice(0, use.batch * blocks_, blocks_).Slice(1, 0, rows)};
}

}  // namespace conclave::optim
