// SPDX-License-Identifier: Apache-2.0
// y = x W^T + b, and its gradients: dx at once, dW as a task. The only module that will know about fp8. Legend: T
// tokens, N outputs, K inputs.
#pragma once

#include <string>
#include <vector>

#include "core/model/param.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

class Linear {
 public:
  struct Output {         // one Hugging Face matrix of the stack, optionally with a bias
    std::string hf_name;  // without ".weight"
    int64_t out;
    bool bias = false;
  };

  // Declares one parameter [sum of outs, in] whose parts are hf_prefix + name + ".weight".
  Linear(ParamSet& params, const std::string& name, const std::string& hf_prefix, const std::vector<Output>& outputs,
         int64_t in, DType product_dtype, const HeadRows& head_rows = {});

  int64_t out() const { return weight_->spec.shape[0]; }
  int64_t in() const { return weight_->spec.shape[1]; }
  const Param& weight() const { return *weight_; }

  // x [T, K], addend [T, N] optional, y [T, N].
  void Forward(Lane& lane, Tensor x, Tensor addend, Tensor y) const;
  // dy [T, N] and x [T, K] must live until the weight gradient; dx [T, K].
  void Backward(Lane& lane, StagePass& pass, const ParamSet& params, const char* use, Tensor x, Tensor dy,
                Tensor dx) const;

 private:
  Param* weight_;
  Param* bias_ = nullptr;
};

}  // namespace conclave::core
