// SPDX-License-Identifier: Apache-2.0
#include "core/model/linear.h"

namespace conclave::core {

Linear::Linear(ParamSet& params, const std::string& name, const std::string& hf_prefix,
               const std::vector<Output>& outputs, int64_t in, DType product_dtype, const HeadRows& head_rows) {
  ParamSpec weight{.name = name, .product_dtype = product_dtype, .head_rows = head_rows};
  ParamSpec bias{.name = name + ".bias", .kind = ParamKind::kVector, .init = ParamInit::kZeros};
  int64_t rows = 0, biased_rows = 0;
  for (const Output& output : outputs) {
    weight.parts.push_back({hf_prefix + output.hf_name + ".weight", {output.out, in}, rows * in});
    if (output.bias) {
      bias.parts.push_back({hf_prefix + output.hf_name + ".bias", {output.out}, rows});
      biased_rows += output.out;
    }
    rows += output.out;
  }
  weight.shape = {rows, in};
  weight_ = params.Declare(std::move(weight));
  if (biased_rows == 0) return;
  CHECK_EQ(biased_rows, rows);
  bias.shape = {rows};
  bias_ = params.Declare(std::move(bias));
}

void Linear::Forward(Lane& lane, Tensor x, Tensor addend, Tensor y) const {
  lane.kernels.Gemm({.x = x, .w = weight_->forward, .bias = bias_ ? bias_->value : Tensor(), .addend = addend, .y = y});
}

void Linear::Backward(Lane& lane, StagePass& pass, const ParamSet& params, const char* use, Tensor x, Tensor dy,
                      Tensor dx) const {
  lane.kernels.Gemm({.x = dy, .w = weight_->backward, .bias = {}, .addend = {}, .y = dx});
  if (bias_) lane.kernels.BiasGrad(dy, pass.row_offsets, params.Target(*bias_, pass.batch_rows));
  pass.tasks.Append(use, {.dy = dy,
                          .x = x,
                          .segment_offsets = pass.row_offsets,
                          .matrices = 1,
                          .product_dtype = weight_->spec.product_dtype,
                          .target = params.Target(*weight_, pass.batch_rows)});
}

}  // namespace conclave::core
