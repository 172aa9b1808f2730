// SPDX-License-Identifier: Apache-2.0
// Episodes of one optimizer step as packed rows with everything that the policy loss reads, from the whole batch and
// before ranks divide it: a loss has the same bits in every layout. A document is a prompt and its response without the
// last token, which predicts nothing; positions begin anew with each, and labels are the response's tokens. Longest
// first, each document goes to the first row that has room.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/config/config.h"
#include "core/model/batch.h"
#include "rl/episode.h"

namespace conclave::rl {

// Rows at most for `episodes` documents of at most `longest` tokens; longest <= length.
int64_t MostRows(int64_t episodes, int64_t longest, int64_t length);

// Where the labels of an episode went, in the order of groups and their episodes.
struct PackedEpisode {
  Episode* episode = nullptr;
  const Group* group = nullptr;
  int64_t first_label = 0;  // index of the first one in [rows, length]; the others follow
};

struct PackedBatch {
  core::Batch batch;
  std::vector<PackedEpisode> episodes;
  int64_t tokens = 0;  // of documents: the rest of the rows is padding
};

// Of episodes that count, in groups that are kept. `batch` has labels, without what the loss reads.
PackedBatch PackEpisodes(std::span<Group> groups, int64_t length);

// Sets batch.policy: weights by config.aggregate over all responses of the batch (each at most max_tokens long),
// advantages and log-probabilities of the episodes.
void FillPolicy(const core::GrpoConfig& config, int64_t max_tokens, core::PolicyPass pass, PackedBatch& packed);

}  // namespace conclave::rl
