// SPDX-License-Identifier: Apache-2.0
// Policy losses that another program computed for a model: samples, settings, expected values. The form:
//   prompt_ids                i64 [samples, prompt]
//   completion_ids            i64 [samples, tokens]
//   completion_mask           i64 [samples, tokens], 1 up to and with the last token of an answer
//   advantages                f32 [samples]
//   logprobs                  f32 [samples, tokens] of the model; optional
//   old_logprobs              f32 [samples, tokens] of the policy that sampled
//   ref_logprobs              f32 [samples, tokens] of the reference model; with kl
//   rl.<variant>.loss         f32 [1]
//   rl.<variant>.grad.<tensor>   f32
// The metadata has a JSON object of each variant under rl.<variant>: loss (grpo: mean over samples of the mean over
// tokens; bnpo, dapo: mean over tokens; dr_grpo: sum / (samples x max_length); cispo: mean over tokens, clip_high is
// the cap), level (token, sequence), clip_low, clip_high, delta (null, or the ratio's bound where the advantage is
// negative), kl (weight of k3 times the ratio), max_length.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "core/checkpoint/safetensors.h"
#include "core/device/kernels.h"
#include "core/model/batch.h"

namespace conclave::launch {

struct PolicyVariant {
  std::string name;  // "rl.grpo"
  core::PolicyRule rule;
  std::vector<float> weights;  // by label, as in core::PolicyTargets
};

struct PolicyReference {
  core::SafetensorsFile file;
  core::Batch batch;             // a sample is a row; its policy has no weights yet
  std::vector<float> log_probs;  // as the batch's labels; empty: not given
  std::vector<PolicyVariant> variants;

  static absl::StatusOr<PolicyReference> Open(const std::string& path, int64_t vocab_size);
};

// Whether a file is one.
bool IsPolicyReference(const core::SafetensorsFile& file);

}  // namespace conclave::launch
