// SPDX-License-Identifier: Apache-2.0
// The gate of a MoE block, always in f32: logits, choice of experts, weights, balance loss, and the load that moves the
// selection bias (DeepSeek-V3 report, section 2.1.2; softmax form: Qwen3-MoE). Legend: T tokens, E experts, k chosen.
#pragma once

#include <string>

#include "core/config/model_config.h"
#include "core/model/param.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

struct RouterSaved {
  Tensor logits, scores;  // f32 [T, E]
  Tensor experts;         // i32 [T, k] ascending, -1 for padding
  Tensor weights;         // f32 [T, k]
  Tensor fractions;       // f32 [rows, E] of the balance loss
};

// Router replay: experts that tokens were sent to in one pass, for later passes over the same rows. Weights of experts
// are those of the present scores; their gradients, too.
struct RouterChoices {
  enum class Use { kRecord, kReplay };
  Use use = Use::kRecord;
  Tensor experts;     // i32 [..., k]; empty: tokens choose, and nothing is kept
  Tensor flips = {};  // i64 [1], where they replay: += tokens that would have chosen otherwise
  explicit operator bool() const { return static_cast<bool>(experts); }
};

// What a block reports to its step, or takes from it: device memory that outlives the pass.
struct RouterStatistics {
  Tensor balance_loss;         // f64 [rows of the micro-batch]: this block's, unscaled
  Tensor load;                 // i64 [E]: tokens per expert, summed over the step; empty: not counted
  RouterChoices choices = {};  // experts [T, k]
};

class RouterLayer {
 public:
  RouterLayer(const ModelConfig& config, ParamSet& params, const std::string& name, const std::string& hf_prefix);

  // x [T, D] in compute dtype. Losses and counts only in training passes (empty tensors: skipped).
  void Forward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, const RouterStatistics& statistics,
               RouterSaved& saved) const;
  // d_weights f32 [T, k] -> dx f32 [T, D]. x as in Forward, until the weight gradient.
  void Backward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, const RouterSaved& saved, Tensor x,
                Tensor d_weights, float balance_weight, Tensor dx) const;

  int64_t num_experts() const { return num_experts_; }
  Param* bias() const { return bias_; }  // nullptr for softmax routers

 private:
  RouterArgs Args(const DeviceTokens& tokens, const RouterChoices& choices, const RouterSaved& saved) const;

  const ParamSet& params_;
  int64_t num_experts_, top_k_;
  RouterArgs::Scoring scoring_;
  int num_groups_, groups_kept_;
  bool normalize_;
  float scale_;
  Param* gate_;
  Param* bias_ = nullptr;
};

}  // namespace conclave::core
