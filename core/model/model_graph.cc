// SPDX-License-Identifier: Apache-2.0
#include "core/model/model_graph.h"

#include "absl/strings/str_format.h"

namespace conclave::core {
namespace {

// Parameters of the matrices of a block's attention: each costs 2 FLOPs per token.
int64_t AttentionMatrices(const ModelConfig& c) {
  const int64_t d = c.hidden_size, h = c.num_attention_heads;
  if (!c.HasMla()) return d * c.HeadDim() * (2 * h + 2 * c.KeyValueHeads());
  const int64_t query = c.qk_nope_head_dim + c.qk_rope_head_dim;
  const int64_t queries = c.q_lora_rank ? d * c.q_lora_rank + c.q_lora_rank * h * query : d * h * query;
  return queries + d * (c.kv_lora_rank + c.qk_rope_head_dim) +
         c.kv_lora_rank * h * (c.qk_nope_head_dim + c.v_head_dim) + h * c.v_head_dim * d;
}

int64_t AttentionVectors(const ModelConfig& c) {
  if (c.HasMla()) return c.q_lora_rank + c.kv_lora_rank;
  const int64_t biases = c.HasQkvBias() ? c.HeadDim() * (c.num_attention_heads + 2 * c.KeyValueHeads()) : 0;
  return biases + (c.HasQkNorm() ? 2 * c.HeadDim() : 0);
}

LayerCost BlockCost(const ModelConfig& c, int64_t layer, int64_t length) {
  const int64_t d = c.hidden_size;
  LayerCost cost{.name = absl::StrFormat("block %d", layer)};
  const int64_t attention = AttentionMatrices(c);
  int64_t active = attention, all = attention;
  if (c.IsMoe(layer)) {
    const int64_t expert = 3 * d * c.moe_intermediate_size;
    const int64_t always = expert * c.n_shared_experts + d * c.n_routed_experts;
    active += expert * c.num_experts_per_tok + always;
    all += expert * c.n_routed_experts + always;
  } else {
    active += 3 * d * c.intermediate_size;
    all += 3 * d * c.intermediate_size;
  }
  const int64_t query = c.HasMla() ? c.qk_nope_head_dim + c.qk_rope_head_dim : c.HeadDim();
  const int64_t value = c.HasMla() ? c.v_head_dim : c.HeadDim();
  const double core =
      2.0 * (static_cast<double>(length) / 2) * static_cast<double>(c.num_attention_heads * (query + value));
  const int64_t vectors = AttentionVectors(c) + 2 * d;
  cost.params = all + vectors;
  cost.active_params = active + vectors;
  cost.forward_flops = 2.0 * static_cast<double>(active) + core;
  return cost;
}

}  // namespace

int64_t ModelGraph::params() const {
  int64_t n = 0;
  for (const LayerCost& layer : layers) n += layer.params;
  return n;
}

int64_t ModelGraph::active_params() const {
  int64_t n = 0;
  for (const LayerCost& layer : layers) n += layer.active_params;
  return n;
}

double ModelGraph::ForwardFlopsPerToken() const {
  double flops = 0;
  for (const LayerCost& layer : layers) flops += layer.forward_flops;
  return flops;
}

ModelGraph MakeModelGraph(const ModelConfig& config, int64_t sequence_length) {
  ModelGraph graph;
  const int64_t d = config.hidden_size, table = config.vocab_size * d;
  graph.layers.push_back({.name = "embedding", .params = table, .active_params = table, .forward_flops = 0});
  for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    graph.layers.push_back(BlockCost(config, layer, sequence_length));
  }
  const int64_t head = config.tie_word_embeddings ? 0 : table;
  graph.layers.push_back({.name = "head",
                          .params = head + d,
                          .active_params = head + d,
                          .forward_flops = 2.0 * static_cast<double>(table)});
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    LayerCost cost = BlockCost(config, config.num_hidden_layers + k, sequence_length);
    cost.name = absl::StrFormat("multi-token prediction %d", k + 1);
    cost.params += 2 * d * d + 3 * d;
    cost.active_params += 2 * d * d + 3 * d;
    cost.forward_flops += 2.0 * static_cast<double>(2 * d * d + table);
    graph.layers.push_back(cost);
  }
  return graph;
}

}  // namespace conclave::core
