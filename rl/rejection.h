// SPDX-License-Identifier: Apache-2.0
// Rejection sampling: of the samples of a prompt, those to learn from. They are right by the first reward, ended by
// themselves, and their text gives back the very tokens that were drawn, so that fine-tuning learns what was sampled.
// The shortest go first, and no text is taken twice for the same prompt.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/container/flat_hash_set.h"

#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "rl/episode.h"
#include "rl/sampler.h"

namespace conclave::rl {

// Each sample is unfinished, wrong, unreadable, or accepted.
struct RejectionCounts {
  int64_t prompts = 0, samples = 0, tokens = 0;  // drawn
  int64_t unfinished = 0;                        // cut at the limit
  int64_t wrong = 0;                             // or not judged, as the verifier failed
  int64_t unreadable = 0;                        // right, but the text is empty or gives other tokens
  int64_t accepted = 0;                          // all others
  int64_t repeated = 0;                          // of these, those whose text is there already
  int64_t kept = 0;                              // of the rest, those that a prompt may keep
  int64_t kept_tokens = 0;
  int64_t answered = 0;  // prompts of which a sample is kept

  void Add(const RejectionCounts& more);
};

class Rejection {
 public:
  // `keep`: samples of a prompt at most. The tokenizer outlives it; `system`: what each prompt begins with, or "".
  Rejection(int64_t keep, const data::Tokenizer& tokenizer, data::ChatTemplate chat_template, std::string system)
      : keep_(keep),
        chat_template_(std::move(chat_template)),
        system_(std::move(system)),
        encoder_(tokenizer.NewEncoder()),
        end_token_(tokenizer.eos_id()) {}

  // Adds a line for each sample kept, as stage sft reads them: {"prompt": "...", "response": "...", "answer": "...",
  // "reward": 1.0, "draw": 0, "sample": 0}. Groups come in the order of draws.
  RejectionCounts Select(std::span<const Group> groups, const Sampler::PromptOf& prompt_of, std::string& lines);

 private:
  enum class Verdict { kUnfinished, kWrong, kUnreadable, kAccepted };
  Verdict Judge(const Group& group, const Episode& episode, const std::string& prompt);
  bool GivesItsTokens(const Group& group, const Episode& episode, const std::string& prompt);

  const int64_t keep_;
  const data::ChatTemplate chat_template_;
  const std::string system_;
  std::unique_ptr<data::Encoder> encoder_;
  const int32_t end_token_;
  absl::flat_hash_set<std::string> seen_;  // prompts with their responses
};

// The seed of prompts and samples for a run of this seed: streams apart from those of grpo and of evaluations.
uint64_t RejectionSeed(int64_t seed);

}  // namespace conclave::rl
