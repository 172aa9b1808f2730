// SPDX-License-Identifier: Apache-2.0
#include "parallel/partition.h"

#include <limits>

#include "absl/strings/str_format.h"

#include "core/model/model_graph.h"

namespace conclave::parallel {

absl::StatusOr<std::vector<core::StagePart>> CutIntoStages(const std::vector<double>& block_costs,
                                                           double embedding_cost, double loss_cost, int num_stages) {
  const int64_t layers = static_cast<int64_t>(block_costs.size());
  if (num_stages > layers) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d pipeline stages are more than the model's %d layers; lower parallel.pipeline or parallel.virtual_stages",
        num_stages, layers));
  }
  std::vector<double> before(layers + 1, 0);
  for (int64_t i = 0; i < layers; ++i) before[i + 1] = before[i] + block_costs[i];
  const auto cost = [&](int64_t begin, int64_t end) {
    return before[end] - before[begin] + (begin == 0 ? embedding_cost : 0) + (end == layers ? loss_cost : 0);
  };
  // best[s][end]: least possible cost of the dearest of s stages over layers [0, end); from[s][end]: where the last
  // begins.
  const double none = std::numeric_limits<double>::infinity();
  std::vector<std::vector<double>> best(num_stages + 1, std::vector<double>(layers + 1, none));
  std::vector<std::vector<int64_t>> from(num_stages + 1, std::vector<int64_t>(layers + 1, 0));
  best[0][0] = 0;
  for (int stage = 1; stage <= num_stages; ++stage) {
    for (int64_t end = stage; end <= layers; ++end) {
      for (int64_t begin = stage - 1; begin < end; ++begin) {
        const double dearest = std::max(best[stage - 1][begin], cost(begin, end));
        if (dearest >= best[stage][end]) continue;
        best[stage][end] = dearest;
        from[stage][end] = begin;
      }
    }
  }
  std::vector<core::StagePart> parts(num_stages);
  int64_t end = layers;
  for (int stage = num_stages; stage > 0; --stage) {
    const int64_t begin = from[stage][end];
    parts[stage - 1] = {begin, end - begin, stage == 1, stage == num_stages};
    end = begin;
  }
  return parts;
}

absl::StatusOr<std::vector<core::StagePart>> CutIntoStages(const core::ModelConfig& config, int64_t sequence_length,
                                                           int num_stages) {
  const core::ModelGraph graph = core::MakeModelGraph(config, sequence_length);
  std::vector<double> blocks;
  double loss = 0;
  for (size_t i = 1; i < graph.layers.size(); ++i) {  // embedding, blocks, head, multi-token prediction
    const bool block = static_cast<int64_t>(blocks.size()) < config.num_hidden_layers;
    (block ? blocks.emplace_back(0) : loss) += graph.layers[i].forward_flops;
  }
  return CutIntoStages(blocks, graph.layers.front().forward_flops, loss, num_stages);
}

}  // namespace conclave::parallel
