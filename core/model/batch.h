// SPDX-License-Identifier: Apache-2.0
// What a training step reads: rows of packed documents, in host memory. All vectors are row-major [rows, length].
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace conclave::core {

// Whose log-probabilities the old ones are. kOnPolicy: of the very weights that learn, so that one pass over the head
// is enough: the ratio is 1, and that the pass gives the same numbers is checked behind it. kOffPolicy: of older
// weights.
enum class PolicyPass { kOnPolicy, kOffPolicy };

// What a policy learns from, by label: [rows, length]; anything where there is no label.
struct PolicyTargets {
  PolicyPass pass = PolicyPass::kOffPolicy;
  std::vector<float> old_log_probs = {};        // when the label was drawn
  std::vector<float> reference_log_probs = {};  // of the reference model; empty: none
  std::vector<float> advantages = {};
  std::vector<float> weights = {};      // what a label's loss counts in that of the global batch
  std::vector<int32_t> sequences = {};  // which response a label belongs to, in runs; -1 = none: it is not learned from
};

// positions carry the document borders: a token's keys are those from index (s - position) to s of its row.
struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int32_t> tokens = {};          // ids; 0 where padded
  std::vector<int32_t> positions = {};       // position within the document (masked) or the row; -1 = padding
  std::vector<int32_t> labels = {};          // the token after this one; -1 = no label
  int64_t num_labels = 0;                    // labels that are not -1, over all rows
  std::vector<int64_t> row_ids = {};         // which packed rows these are; for the hash chain and for messages
  std::optional<PolicyTargets> policy = {};  // then labels are learned from by the policy's loss, not by cross entropy
};

// Rows [begin, begin + rows) as multi-token prediction at depth `shift` sees them (0: as they are): position s carries
// token s + shift and its label; without such a token in the same document it is padding (-1). Rows beyond the batch
// are padding, too, so that every micro-batch has its full shape.
struct ShiftedTokens {
  std::vector<int32_t> tokens, positions, labels;  // [rows, length]
};
void ShiftTokens(const Batch& batch, int64_t begin, int64_t rows, int64_t shift, ShiftedTokens& out);

}  // namespace conclave::core
