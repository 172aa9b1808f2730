// SPDX-License-Identifier: Apache-2.0
// Batches that a policy learns from, with samples of a made-up older policy: in each document a prompt, then a
// response.
#pragma once

#include "core/base/exact_math.h"
#include "tests/support/tiny_model.h"

namespace conclave::testing {

// Three tokens or so of each document are its prompt. Old and reference log-probabilities lie around those of a model
// that knows nothing, so that ratios are on both sides of every bound.
inline core::Batch RandomPolicyBatch(int64_t rows, int64_t length, int64_t vocabulary, uint64_t seed) {
  core::Batch batch = RandomBatch(rows, length, vocabulary, seed);
  core::PolicyTargets& policy = batch.policy.emplace();
  const uint64_t key = core::RandomKey(seed, core::RandomPurpose::kTest, 2);
  const float guess = -core::ExactLog(static_cast<double>(vocabulary));
  int32_t response = -1;
  for (int64_t i = 0; i < rows * length; ++i) {
    const auto s = static_cast<size_t>(i);
    const auto normal = [&](int64_t which) { return core::StandardNormal(key, static_cast<uint64_t>(5 * i + which)); };
    if (batch.positions[s] == 2) ++response;
    const bool learned = batch.labels[s] >= 0 && batch.positions[s] >= 2;
    policy.sequences.push_back(learned ? response : -1);
    policy.advantages.push_back(static_cast<float>(core::StandardNormal(key + 1, static_cast<uint64_t>(response))));
    policy.old_log_probs.push_back(guess + 0.4f * static_cast<float>(normal(1)));
    policy.reference_log_probs.push_back(guess + 0.4f * static_cast<float>(normal(2)));
    policy.weights.push_back(1.0f / static_cast<float>(batch.num_labels));
  }
  return batch;
}

}  // namespace conclave::testing
