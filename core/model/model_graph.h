// SPDX-License-Identifier: Apache-2.0
// The layers of a model in order, with what each costs: what plans, banners and utilization figures are made of. Holds
// no tensors. FLOP formulas: a multiply-add counts 2, causal attention counts each pair once, training is three
// forwards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/model_config.h"

namespace conclave::core {

struct LayerCost {
  std::string name;
  int64_t params = 0;         // all
  int64_t active_params = 0;  // that one token visits
  double forward_flops = 0;   // per token, at the sequence length given
};

struct ModelGraph {
  std::vector<LayerCost> layers;  // embedding, blocks, head, then one per multi-token-prediction depth

  int64_t params() const;
  int64_t active_params() const;
  double ForwardFlopsPerToken() const;
  double TrainFlopsPerToken() const { return 3 * ForwardFlopsPerToken(); }
};

ModelGraph MakeModelGraph(const ModelConfig& config, int64_t sequence_length);

}  // namespace conclave::core
