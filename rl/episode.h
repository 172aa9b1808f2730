// SPDX-License-Identifier: Apache-2.0
// What a step learns from: groups of responses to one prompt, each with its rewards. Everything that follows from them
// (advantages, packed rows, losses) is computed on every rank from the same episodes of the whole batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rl/completion.h"

namespace conclave::rl {

struct Episode {
  Completion completion;
  std::string text;           // what rewards read: prefill and response, without special tokens
  double reward = 0;          // the weighted sum of parts
  std::vector<double> parts;  // by reward of the config, before its weight
  std::string reason;         // why, in words
  std::vector<bool> failed;   // by reward: its verifier did
  bool counted = true;        // false: not in the loss, nor in what advantages are relative to
  int64_t version = 0;        // steps done by the weights that it was drawn with
  // Set before the update:
  double kl_penalty = 0;  // what a divergence from the reference model takes from the reward in advantages
  double advantage = 0;
  std::vector<float> token_advantages;     // by token, instead of `advantage`; empty: all alike
  std::vector<float> old_log_probs;        // of the weights at the start of the update; empty: as it was drawn
  std::vector<float> reference_log_probs;  // empty: no reference model
  std::vector<float> importance;           // off-policy weights by token; empty: 1
};

struct Group {
  int64_t draw = 0;
  std::vector<int32_t> prompt;
  std::string answer;
  bool kept = true;  // false: dynamic sampling found no spread in it
  std::vector<Episode> episodes;
};

}  // namespace conclave::rl
