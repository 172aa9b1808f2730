// SPDX-License-Identifier: Apache-2.0
// SwiGLU MLP: y = W_down (silu(W_gate x) * W_up x), for dense blocks and shared experts. Gate and up are one GEMM.
// Legend: T tokens, D hidden, I width.
#pragma once

#include <string>

#include "core/model/linear.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

struct MlpSaved {
  Tensor x;        // [T, D]; until the weight gradient (the caller's)
  Tensor gate_up;  // [T, 2 I]
  Tensor h;        // [T, I]; until the weight gradient
};

class Mlp {
 public:
  Mlp(ParamSet& params, const std::string& name, const std::string& hf_prefix, int64_t hidden, int64_t width,
      DType dtype)
      : params_(params),
        dtype_(dtype),
        width_(width),
        gate_up_(params, name + ".gate_up", hf_prefix, {{"gate_proj", width}, {"up_proj", width}}, hidden, dtype),
        down_(params, name + ".down", hf_prefix, {{"down_proj", hidden}}, width, dtype) {}

  // y = addend (optional) + mlp(saved.x); all [T, D].
  void Forward(Lane& lane, StagePass& pass, MlpSaved& saved, Tensor addend, Tensor y) const {
    const int64_t t = saved.x.size(0);
    saved.gate_up = pass.SavedForInputGrad().Allocate(dtype_, {t, 2 * width_});
    gate_up_.Forward(lane, saved.x, {}, saved.gate_up);
    saved.h = pass.SavedForWeightGrad().Allocate(dtype_, {t, width_});
    lane.kernels.SwiGlu(saved.gate_up, {}, {}, saved.h);
    down_.Forward(lane, saved.h, addend, y);
  }

  // dy [T, D] lives until the weight gradient; dx [T, D].
  void Backward(Lane& lane, StagePass& pass, const MlpSaved& saved, Tensor dy, Tensor dx) const {
    const int64_t t = saved.x.size(0);
    Arena::Scope scope(lane.scratch);
    const Tensor dh = lane.scratch.Allocate(dtype_, {t, width_});
    down_.Backward(lane, pass, params_, "down_proj", saved.h, dy, dh);
    const Tensor d_gate_up = pass.until_weight_grad.Allocate(dtype_, {t, 2 * width_});
    lane.kernels.SwiGluBackward(saved.gate_up, {}, {}, dh, d_gate_up, {});
    gate_up_.Backward(lane, pass, params_, "gate_up_proj", saved.x, d_gate_up, dx);
  }

 private:
  const ParamSet& params_;
  DType dtype_;
  int64_t width_;
  Linear gate_up_, down_;
};

}  // namespace conclave::core
