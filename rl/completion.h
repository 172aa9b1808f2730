// SPDX-License-Identifier: Apache-2.0
// What the sampler gives: tokens with the log-probabilities they were drawn with. Names of samples are (draw, sample):
// prompts are numbered by draw over the whole run, so a prompt that is drawn twice gives other samples.
#pragma once

#include <cstdint>
#include <vector>

namespace conclave::rl {

enum class Ending { kEndToken, kStopText, kMaxTokens };

// A prompt and how many samples of it: numbers first_sample, first_sample + 1, ...
struct Request {
  int64_t draw = 0;
  int64_t first_sample = 0, samples = 1;
  std::vector<int32_t> prompt;  // not empty
};

struct Completion {
  int64_t draw = 0, sample = 0;
  Ending ending = Ending::kMaxTokens;
  std::vector<int32_t> tokens;            // the end token is one of them
  std::vector<float> log_probs;           // by token: of log-softmax(logits / T) over the whole vocabulary
  std::vector<float> filtered_log_probs;  // of the distribution that was drawn from; empty where nothing is filtered
  double entropy = 0;                     // of log-softmax(logits / T), nats, sum over tokens
};

}  // namespace conclave::rl
