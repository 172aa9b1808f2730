// SPDX-License-Identifier: Apache-2.0
#include "rl/rollout_packing.h"

#include <algorithm>
#include <numeric>

#include "core/base/check.h"

namespace conclave::rl {
namespace {

int64_t DocumentTokens(const PackedEpisode& packed) {
  return static_cast<int64_t>(packed.group->prompt.size() + packed.episode->completion.tokens.size()) - 1;
}

// Where each document begins: row x length + offset.
std::vector<int64_t> PlaceDocuments(const std::vector<PackedEpisode>& episodes, int64_t length, int64_t& num_rows) {
  std::vector<size_t> order(episodes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return DocumentTokens(episodes[a]) > DocumentTokens(episodes[b]); });
  std::vector<int64_t> used, begin(episodes.size());
  for (const size_t i : order) {
    const int64_t tokens = DocumentTokens(episodes[i]);
    CHECK_LE(tokens, length);
    auto row = std::find_if(used.begin(), used.end(), [&](int64_t u) { return u + tokens <= length; });
    if (row == used.end()) row = used.insert(used.end(), 0);
    begin[i] = (row - used.begin()) * length + *row;
    *row += tokens;
  }
  num_rows = static_cast<int64_t>(used.size());
  return begin;
}

}  // namespace

int64_t MostRows(int64_t episodes, int64_t longest, int64_t length) {
  CHECK_LE(longest, length);
  // All rows but the last begun hold more than length - longest tokens, and all but one at least that many documents.
  const int64_t filled = episodes * longest / (length - longest + 1) + 1;
  return std::min(episodes, filled);
}

PackedBatch PackEpisodes(std::span<Group> groups, int64_t length) {
  PackedBatch out;
  for (Group& group : groups) {
    for (Episode& episode : group.episodes) {
      if (!group.kept || !episode.counted) continue;
      out.episodes.push_back({.episode = &episode, .group = &group});
    }
  }
  core::Batch& batch = out.batch;
  const std::vector<int64_t> begin = PlaceDocuments(out.episodes, length, batch.rows);
  batch.length = length;
  batch.tokens.assign(batch.rows * length, 0);
  batch.positions.assign(batch.rows * length, -1);
  batch.labels.assign(batch.rows * length, -1);
  for (int64_t row = 0; row < batch.rows; ++row) batch.row_ids.push_back(row);
  for (size_t i = 0; i < out.episodes.size(); ++i) {
    PackedEpisode& packed = out.episodes[i];
    const std::vector<int32_t>&prompt = packed.group->prompt, &response = packed.episode->completion.tokens;
    const int64_t tokens = DocumentTokens(packed);
    std::copy(prompt.begin(), prompt.end(), batch.tokens.begin() + begin[i]);
    std::copy(response.begin(), response.end() - 1, batch.tokens.begin() + begin[i] + prompt.size());
    std::iota(batch.positions.begin() + begin[i], batch.positions.begin() + begin[i] + tokens, 0);
    packed.first_label = begin[i] + static_cast<int64_t>(prompt.size()) - 1;
    std::copy(response.begin(), response.end(), batch.labels.begin() + packed.first_label);
    batch.num_labels += static_cast<int64_t>(response.size());
    out.tokens += tokens;
  }
  return out;
}

void FillPolicy(const core::GrpoConfig& config, int64_t max_tokens, core::PolicyPass pass, PackedBatch& packed) {
  const size_t size = packed.batch.tokens.size();
  core::PolicyTargets policy{.pass = pass,
                             .old_log_probs = std::vector<float>(size),
                             .advantages = std::vector<float>(size),
                             .weights = std::vector<float>(size),
                             .sequences = std::vector<int32_t>(size, -1)};
  const auto responses = static_cast<double>(packed.episodes.size());
  const bool has_reference = !packed.episodes.empty() && !packed.episodes[0].episode->reference_log_probs.empty();
  if (has_reference) policy.reference_log_probs.resize(size);
  for (size_t i = 0; i < packed.episodes.size(); ++i) {
    const Episode& episode = *packed.episodes[i].episode;
    const int64_t first = packed.episodes[i].first_label;
    const size_t tokens = episode.completion.tokens.size();
    double weight = 1.0 / static_cast<double>(packed.batch.num_labels);
    if (config.aggregate == "sequence") weight = 1.0 / (responses * static_cast<double>(tokens));
    if (config.aggregate == "constant") weight = 1.0 / (responses * static_cast<double>(max_tokens));
    const std::vector<float>& old =
        episode.old_log_probs.empty() ? episode.completion.log_probs : episode.old_log_probs;
    for (size_t t = 0; t < tokens; ++t) {
      const size_t place = first + t;
      const double importance = episode.importance.empty() ? 1.0 : static_cast<double>(episode.importance[t]);
      policy.old_log_probs[place] = old[t];
      policy.advantages[place] =
          episode.token_advantages.empty() ? static_cast<float>(episode.advantage) : episode.token_advantages[t];
      policy.weights[place] = static_cast<float>(weight * importance);
      policy.sequences[place] = static_cast<int32_t>(i);
      if (has_reference) policy.reference_log_probs[place] = episode.reference_log_probs[t];
    }
  }
  packed.batch.policy = std::move(policy);
}

}  // namespace conclave::rl
