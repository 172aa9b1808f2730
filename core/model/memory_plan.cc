// SPDX-License-Identifier: Apache-2.0
#include "core/model/memory_plan.h"

#include <algorithm>

#include "core/model/counting_kernels.h"

namespace conclave::core {

void PassMemory::CoverAlso(const PassMemory& other) {
  until_input_grad = std::max(until_input_grad, other.until_input_grad);
  until_weight_grad = std::max(until_weight_grad, other.until_weight_grad);
  until_block_end = std::max(until_block_end, other.until_block_end);
  scratch = std::max(scratch, other.scratch);
}

namespace {

PolicyTensors AllocatePolicy(Arena& arena, const PassShape& shape) {
  PolicyTensors policy;
  if (shape.policy == PolicyInputs::kNone) return policy;
  for (Tensor* x : {&policy.old_log_probs, &policy.advantages, &policy.weights}) {
    *x = arena.Allocate(DType::kF32, {shape.rows, shape.length});
  }
  policy.sequences = arena.Allocate(DType::kI32, {shape.rows, shape.length});
  if (shape.policy == PolicyInputs::kSampledAndReference) {
    policy.reference_log_probs = arena.Allocate(DType::kF32, {shape.rows, shape.length});
  }
  return policy;
}

}  // namespace

void AllocateTokens(StagePass& pass, const PassShape& shape, int64_t mtp_depth) {
  pass.mode = shape.mode;
  pass.predict_ahead = shape.predict_ahead;
  pass.rows = shape.rows;
  pass.length = shape.length;
  pass.group_rows = shape.group_rows;
  if (shape.group_rows.empty()) pass.group_rows.assign(1, shape.rows);
  const int64_t t = shape.rows * shape.length;
  Arena& arena = pass.until_weight_grad;
  pass.row_offsets = arena.Allocate(DType::kI32, {shape.rows + 1});
  pass.shifted.resize(1 + (shape.predict_ahead ? mtp_depth : 0));
  for (DeviceTokens& tokens : pass.shifted) {
    tokens.tokens = arena.Allocate(DType::kI32, {t});
    tokens.positions = arena.Allocate(DType::kI32, {shape.rows, shape.length});
    tokens.labels = arena.Allocate(DType::kI32, {t});
  }
  pass.policy = AllocatePolicy(arena, shape);
}

PassMemory PlanPass(const Stage& stage, Device& device, Stream& stream, const Kernels& kernels, const PassShape& shape,
                    const std::vector<ExchangeRows>& exchange_rows) {
  CountingKernels counter(kernels);
  Arena scratch("scratch"), step("step");
  Lane lane{counter, scratch, device, stream};
  StagePass pass;
  StageSaved saved;
  const ModelConfig& config = stage.config();
  const int64_t depth = config.num_nextn_predict_layers;
  AllocateTokens(pass, shape, depth);
  pass.planning = true;
  pass.exchange_rows = exchange_rows.empty() ? stage.WorstExchangeRows(pass) : exchange_rows;
  const int64_t moe_blocks = static_cast<int64_t>(MoeLayers(config).size());
  StepStatistics statistics{.loss = step.Allocate(DType::kF64, {1 + depth, shape.rows}),
                            .z_sum = step.Allocate(DType::kF64, {1, shape.rows}),
                            .balance_loss = {},
                            .load = {},
                            .log_probs = {},
                            .policy = step.Allocate(DType::kF64, {shape.rows, kPolicySums})};
  if (moe_blocks > 0 && shape.mode != PassMode::kForwardOnly) {
    statistics.balance_loss = step.Allocate(DType::kF64, {moe_blocks, shape.rows});
    statistics.load = step.Allocate(DType::kI64, {moe_blocks, config.n_routed_experts});
  }
  LossWeights weights{.label_scale = 1, .mtp = 1, .balance = 1, .z_loss = 1};
  if (shape.teacher_hidden > 0) {
    statistics.teacher_hidden = step.Allocate(stage.dtype(), {shape.rows, shape.length, shape.teacher_hidden});
    statistics.divergence = step.Allocate(DType::kF64, {1, shape.rows});
    weights.distillation.teacher_head = {
        .panels = {}, .dtype = stage.dtype(), .out = config.vocab_size, .in = shape.teacher_hidden};
  }
  if (!stage.part().embedding) stage.AllocateInput(pass, saved);
  if (shape.decoding) {
    pass.key_index = step.Allocate(DType::kI32, {shape.rows, shape.length});
    stage.ForwardBody(lane, pass, {}, stage.AllocateCaches(step, shape.rows, shape.length), saved);
  } else {
    stage.Forward(lane, pass, weights, statistics, saved);
  }
  if (shape.mode != PassMode::kForwardOnly) {
    if (!stage.part().loss) stage.AllocateOutputGradient(pass, saved);
    stage.BackwardInput(lane, pass, weights, saved);
    stage.BackwardWeight(lane, pass);
  }
  return {.until_input_grad = pass.until_input_grad.peak(),
          .until_weight_grad = pass.until_weight_grad.peak(),
          .until_block_end = pass.until_block_end.peak(),
          .scratch = scratch.peak(),
          .flops = counter.flops()};
}

}  // namespace conclave::core
