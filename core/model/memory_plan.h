// SPDX-License-Identifier: Apache-2.0
// How much memory a pass needs, found by running it on CountingKernels with measuring arenas: planned and measured come
// from the same code, so a run can assert that they are equal. A function of the rows that exchanges move
// (StagePass::exchange_rows): their bound before a run, what was recorded after it.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/stage.h"

namespace conclave::core {

struct PassShape {
  PassMode mode = PassMode::kTrainImmediate;
  int64_t rows = 1, length = 1;
  bool predict_ahead = true;             // with multi-token prediction, where the model has it
  bool decoding = false;                 // with caches, up to the final norm
  std::vector<int64_t> group_rows = {};  // StagePass::group_rows; empty: {rows}
  PolicyInputs policy = PolicyInputs::kNone;
  int64_t teacher_hidden = 0;  // width of the states that a student's loss reads; 0: it has no teacher
  bool operator==(const PassShape&) const = default;
};

struct PassMemory {
  int64_t until_input_grad = 0, until_weight_grad = 0, until_block_end = 0, scratch = 0;  // bytes
  double flops = 0;  // of the GEMMs and attention, with causal attention
  int64_t Total() const { return until_input_grad + until_weight_grad + until_block_end + scratch; }
  bool operator==(const PassMemory& other) const {
    return until_input_grad == other.until_input_grad && until_weight_grad == other.until_weight_grad &&
           until_block_end == other.until_block_end && scratch == other.scratch;
  }
  void CoverAlso(const PassMemory& other);
};

// `kernels`: the backend whose workspaces are counted; device and stream are not used. The stage's parameters need not
// be allocated. `exchange_rows`: empty means the most there can be.
PassMemory PlanPass(const Stage& stage, Device& device, Stream& stream, const Kernels& kernels, const PassShape& shape,
                    const std::vector<ExchangeRows>& exchange_rows = {});

// Allocates the device tensors of a micro-batch in pass.until_weight_grad; their contents come from FillTokens.
void AllocateTokens(StagePass& pass, const PassShape& shape, int64_t mtp_depth);

}  // namespace conclave::core
