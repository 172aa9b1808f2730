// SPDX-License-Identifier: Apache-2.0
// The training that the layout law is tested on: 16 small blocks with everything on, 48 rows of two packed documents or
// so.
#pragma once

#include "optim/layout_check.h"
#include "tests/support/tiny_model.h"

namespace conclave::testing {

// 10 experts: no number of ranks but 1, 2, 5 and 10 divides them.
inline optim::LayoutTask SmallLayoutTask(int64_t rows, int64_t steps) {
  optim::LayoutTask task{.config = TinyConfig(), .model = {}, .steps = steps};
  core::ModelConfig& model = task.config.model;
  model.vocab_size = 61;
  model.hidden_size = 16;
  model.intermediate_size = 24;
  model.num_hidden_layers = 16;
  model.num_attention_heads = 2;
  model.q_lora_rank = 12;
  model.kv_lora_rank = 10;
  model.qk_nope_head_dim = 6;
  model.qk_rope_head_dim = 4;
  model.v_head_dim = 6;
  model.n_routed_experts = 10;
  model.num_experts_per_tok = 3;
  model.moe_intermediate_size = 8;
  model.first_k_dense_replace = 2;
  model.n_group = 5;
  model.topk_group = 3;
  task.config.data.sequence_length = 8;
  task.config.batch.sequences = rows;
  task.config.train.steps = steps;
  task.config.train.init_std = 0.2;
  task.config.optim.clip = 0.5;
  task.model = model;
  task.batch = [rows](int64_t step) { return RandomBatch(rows, 8, 61, static_cast<uint64_t>(step)); };
  task.initialize = [config = task.config](core::Model& model) {
    model.params().Initialize(model.kernels(), static_cast<uint64_t>(config.train.seed), config.train.init_std);
    return absl::OkStatus();
  };
  return task;
}

}  // namespace conclave::testing
