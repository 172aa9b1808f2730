// SPDX-License-Identifier: Apache-2.0
// Mixture of experts: a router, E routed SwiGLU experts as grouped GEMMs, and optionally a shared expert that every
// token visits. The routing weight multiplies the activation before the down projection, so the combine only adds. No
// token is dropped, whatever the routing. Legend: T tokens, R routed rows (at most max_rows), E experts, D hidden, I
// expert width.
#pragma once

#include <memory>
#include <string>

#include "core/config/model_config.h"
#include "core/model/mlp.h"
#include "core/model/param.h"
#include "core/model/router.h"
#include "core/model/token_exchange.h"

namespace conclave::core {

struct MoeSaved {
  RouterSaved router;
  RoutedTokens routed;
  Tensor gate_up;  // [max_rows, 2 I]
  Tensor h;        // [max_rows, I]; until the weight gradient
  MlpSaved shared;
  // Between phases of a block.
  Tensor rows;        // [max_rows, D]: outputs (forward) or input gradients (backward) of the experts
  Tensor shared_out;  // [T, D]: the same of the shared expert
  Tensor d_rows;      // [max_rows, D]: output gradients; until the weight gradient
  Tensor d_weight;    // f32 [max_rows]
};

// One method per phase, forward and backward; Block calls them in order.
class Moe {
 public:
  Moe(const ModelConfig& config, ParamSet& params, std::unique_ptr<TokenExchange> exchange, const std::string& name,
      const std::string& hf_prefix, DType dtype);

  // x [T, D] normed input, until the weight gradient.
  void Route(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, const RouterStatistics& statistics,
             MoeSaved& saved) const;
  void Dispatch(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const;
  void Experts(Lane& lane, StagePass& pass, Tensor x, MoeSaved& saved) const;
  // y [T, D] = residual + moe(x)
  void Combine(Lane& lane, StagePass& pass, Tensor residual, MoeSaved& saved, Tensor y) const;

  // dy [T, D], until the weight gradient.
  void CombineBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const;
  void ExpertsBackward(Lane& lane, StagePass& pass, Tensor dy, MoeSaved& saved) const;
  // dx [T, D]: gradient of the normed input.
  void DispatchBackward(Lane& lane, StagePass& pass, const DeviceTokens& tokens, Tensor x, float balance_weight,
                        MoeSaved& saved, Tensor dx) const;

  const RouterLayer& router() const { return router_; }
  const TokenExchange& exchange() const { return *exchange_; }

 private:
  void AppendExpertTask(StagePass& pass, const char* use, const RoutedTokens& routed, Tensor x, Tensor dy,
                        const Param& param) const;

  const ParamSet& params_;
  std::unique_ptr<TokenExchange> exchange_;
  DType dtype_;
  int64_t hidden_, width_;
  RouterLayer router_;
  Param* gate_up_;  // [E, 2 I, D], E experts of this rank
  Param* down_;     // [E, D, I]
  std::unique_ptr<Mlp> shared_;
};

}  // namespace conclave::core
