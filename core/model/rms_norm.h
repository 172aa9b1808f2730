// SPDX-License-Identifier: Apache-2.0
// RMSNorm with a gain: y = x / sqrt(mean(x^2) + eps) * gain over the last dim.
#pragma once

#include <string>

#include "core/model/param.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

class RmsNormLayer {
 public:
  RmsNormLayer(ParamSet& params, const std::string& name, const std::string& hf_name, int64_t width, double eps)
      : gain_(params.Declare({.name = name,
                              .shape = {width},
                              .kind = ParamKind::kVector,
                              .init = ParamInit::kOnes,
                              .parts = {{hf_name + ".weight", {width}, 0}}})),
        eps_(static_cast<float>(eps)) {}

  // x, y [T, n] or [T, H, n]; rstd f32 [T] or [T, H].
  void Forward(Lane& lane, Tensor x, Tensor y, Tensor rstd) const {
    lane.kernels.RmsNorm(x, gain_->value, eps_, y, rstd);
  }
  // dx = gradient through the norm + d_residual (optional).
  void Backward(Lane& lane, const StagePass& pass, const ParamSet& params, Tensor x, Tensor rstd, Tensor dy,
                Tensor d_residual, Tensor dx) const {
    lane.kernels.RmsNormBackward(x, gain_->value, rstd, dy, d_residual, pass.row_offsets, dx,
                                 params.Target(*gain_, pass.batch_rows));
  }

 private:
  Param* gain_;
  float eps_;
};

}  // namespace conclave::core
