// SPDX-License-Identifier: Apache-2.0
// One micro-batch on its way through one stage: its tokens on the device, four lifetimes of memory, and the
// weight-gradient tasks it leaves behind. Kernels are not part of it: an overlapped cell runs phases of two passes on
// two streams.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/device.h"
#include "core/device/kernels.h"
#include "core/model/weight_grad_tasks.h"
#include "core/tensor/arena.h"

namespace conclave::core {

// A stream and the temporary memory of the phase that runs on it.
struct Lane {
  Kernels& kernels;
  Arena& scratch;
  Device& device;
  Stream& stream;
};

// Rows of one exchange of tokens between ranks: what the sizes of its buffers follow from. Hop 1 exists only where an
// exchange goes between nodes first, then inside.
struct ExchangeRows {
  int64_t routed = 0;        // rows of this rank's experts
  int64_t sent[2] = {};      // copies of tokens that leave, by hop, those that stay on this rank included
  int64_t received[2] = {};  // and arrive
  int64_t returned[2] = {};  // choices of what was sent: their rows come home, or sums of them
  bool operator==(const ExchangeRows&) const = default;
};

// Tokens of a micro-batch on the device, for the main model (shift 0) or for multi-token prediction k (shift k):
// position s then carries token s + k and the label of token s + k; positions without both in the same document are
// padding.
struct DeviceTokens {
  Tensor tokens;     // i32 [T], -1 = padding
  Tensor positions;  // i32 [rows, S], -1 = padding
  Tensor labels;     // i32 [T], -1 = none
};

// The same of what a policy learns from (PolicyTargets): f32 [rows, S], sequences i32.
struct PolicyTensors {
  Tensor old_log_probs, advantages, weights, sequences;
  Tensor reference_log_probs;  // optional
  explicit operator bool() const { return static_cast<bool>(sequences); }
};

enum class PolicyInputs { kNone, kSampled, kSampledAndReference };  // what of it there is

enum class PassMode {
  kTrain,           // keep what Backward needs; weight gradients may be deferred
  kTrainImmediate,  // the same, but weight gradients run at the end of each block, whose memory is then free
  kForwardOnly,     // keep nothing
};

struct StagePass {
  PassMode mode = PassMode::kForwardOnly;
  bool predict_ahead = true;  // run multi-token prediction, too
  int64_t rows = 0, length = 0;
  std::vector<DeviceTokens> shifted;  // [1 + multi-token-prediction depth]
  PolicyTensors policy;               // of a pass in which a policy learns, on the stage with the loss
  Tensor row_offsets;                 // i32 [rows + 1] = 0, S, 2 S, ...
  Tensor key_index;                   // i32 [rows, S], only when decoding: places in the cache
  // Rows of each rank that tokens are exchanged with, in their order, in this micro-batch; of this one alone: {rows}.
  std::vector<int64_t> group_rows;
  // By MoE block of the stage: recorded by the exchange as a pass runs, or, when planning, given to it.
  std::vector<ExchangeRows> exchange_rows;
  bool planning = false;   // nothing is communicated, sizes follow from exchange_rows
  int64_t batch_rows = 1;  // rows of the global batch: bounds of gradient sums, mean of the balance loss

  Arena until_input_grad{"until_input_grad"};    // from Forward to BackwardInput
  Arena until_weight_grad{"until_weight_grad"};  // from Forward to BackwardWeight
  Arena until_block_end{"until_block_end"};      // between the phases of one block
  WeightGradTasks tasks{512};

  int64_t num_tokens() const { return rows * length; }
  const DeviceTokens& main() const { return shifted.front(); }
  // Memory for what Backward needs; in a forward-only pass it ends with the block.
  Arena& SavedForInputGrad() { return mode == PassMode::kForwardOnly ? until_block_end : until_input_grad; }
  Arena& SavedForWeightGrad() { return mode == PassMode::kForwardOnly ? until_block_end : until_weight_grad; }
  void Reset();
};

inline void StagePass::Reset() {
  until_input_grad.Reset();
  until_weight_grad.Reset();
  until_block_end.Reset();
}

}  // namespace conclave::core
