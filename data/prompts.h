// SPDX-License-Identifier: Apache-2.0
// Problems to solve. For training an endless stream, in which every draw is a pure function of (config, seed, draw
// number): sources take turns by their weights, files in another order every epoch. For evaluation a list that is
// always the same. No problem may be in both.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "data/blend.h"
#include "data/prompt_source.h"

namespace conclave::data {

class PromptSet {
 public:
  // Of data.prompts. The config and the tokenizer outlive it.
  static absl::StatusOr<PromptSet> Create(const PromptContext& context, uint64_t seed);

  Prompt At(int64_t draw) const;

  const std::vector<PromptSource>& sources() const { return sources_; }
  // 32 hexadecimal digits over the problems and answers of all sources; of endless ones over their first.
  std::string Fingerprint() const;
  // One line for the banner: "7,473 prompts of gsm8k/train.jsonl (12 too long), addition/train without end".
  std::string Description() const;

 private:
  PromptSet(std::vector<PromptSource> sources, Blend blend, uint64_t seed);

  std::vector<PromptSource> sources_;
  Blend blend_;
  uint64_t seed_;
};

// The first `most` problems of data.validation, its sources in turns until they end; those of tasks do not depend on
// the seed of a run. Empty if there are no sources.
absl::StatusOr<std::vector<Prompt>> ReadValidationPrompts(const PromptContext& context, int64_t most);

// An error, with an example, if a problem is in both: by its text, or because its source is the same split of a task.
absl::Status CheckDisjoint(const PromptSet& train, const std::vector<Prompt>& validation);

}  // namespace conclave::data
