// SPDX-License-Identifier: Apache-2.0
// What another program computed for a model: inputs, settings, expected values. The form, all but the first two
// optional:
//   input_ids, labels             i64 [batch, length]; label -100 = none
//   logits, mtp_logits            f32 [batch, length, vocab]; positions without a token to predict from are 0
//   loss, mtp_loss, balance_loss, total_loss   f32 [1]
//   experts.<layer>               i32 [tokens, top_k], ascending
//   grad.<tensor>                 f32, gradient of total_loss
//   train.loss, train.grad_norm   f32 [steps], all steps on this batch
//   after.<tensor>                f32, after the last step (after.<layer>.bias: of the router)
// Settings stand in the metadata: lr, steps, mtp_weight, balance_weight, bias_update.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/safetensors.h"
#include "core/config/config.h"
#include "core/model/batch.h"

namespace conclave::launch {

struct ReferenceSettings {
  double lr = 3e-3, mtp_weight = 0.3, balance_weight = 0.01, bias_update = 0.001;
};

struct Reference {
  core::SafetensorsFile file;
  core::Batch batch;
  ReferenceSettings settings;
  int64_t steps = 0;  // length of train.loss, or steps of the metadata where only after.* is given

  static absl::StatusOr<Reference> Open(const std::string& path, int64_t vocab_size);

  bool HasPrefix(const std::string& prefix) const;
  // Training with these settings: AdamW, betas 0.9 and 0.95, eps 1e-8, decay 0.1 on matrices, norm clipped to 1.
  core::Config TrainingConfig(const core::ModelConfig& model, const std::string& precision) const;
};

}  // namespace conclave::launch
