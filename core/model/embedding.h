// SPDX-License-Identifier: Apache-2.0
// The token table: lookup, and its gradient (per row of the batch and token id, core/base/fixed_sum.h). Used for the
// input, for multi-token prediction, and as the head of models with tied embeddings: separate uses, each rounded by
// itself.
#pragma once

#include "core/config/model_config.h"
#include "core/model/param.h"
#include "core/model/stage_pass.h"

namespace conclave::core {

class EmbeddingLayer {
 public:
  EmbeddingLayer(const ModelConfig& config, ParamSet& params, DType dtype)
      : params_(params),
        table_(params.Declare(
            {.name = "embedding",
             .shape = {config.vocab_size, config.hidden_size},
             .kind = ParamKind::kEmbedding,
             .product_dtype = dtype,
             .parts = {{"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, 0}},
             .num_uses = static_cast<int>((1 + config.num_nextn_predict_layers) * (config.tie_word_embeddings ? 2 : 1)),
             .as_head = config.tie_word_embeddings})) {}

  // ids i32 [T], y [T, D].
  void Forward(Lane& lane, Tensor ids, Tensor y) const { lane.kernels.Embedding(table_->master, ids, y); }
  void Backward(Lane& lane, const StagePass& pass, Tensor ids, Tensor dy) const {
    Arena::Scope scope(lane.scratch);
    const int64_t bytes = lane.kernels.EmbeddingGradWorkspace(dy.size(0), dy.size(1));
    lane.kernels.EmbeddingGrad(ids, dy, pass.row_offsets, params_.Target(*table_, pass.batch_rows),
                               lane.scratch.Allocate(DType::kU8, {bytes}));
  }
  Param* table() const { return table_; }

 private:
  const ParamSet& params_;
  Param* table_;
};

}  // namespace conclave::core
