// SPDX-License-Identifier: Apache-2.0
// Rewards that look at the form of a response, whatever its answer; and a control that looks at nothing.
#pragma once

#include <cstdint>
#include <memory>

#include "rl/reward/reward.h"

namespace conclave::rl {

// 1 if the text is <think>...</think> and then <answer>...</answer>, each tag once, white space around them, else 0.
std::unique_ptr<Reward> MakeFormatReward();

// 0 up to `target_tokens`, falling in a line to -1 at max_tokens.
std::unique_ptr<Reward> MakeLengthReward(int64_t target_tokens);

// DAPO's soft overlong punishment: the same over the last `buffer_tokens` before max_tokens; -1 for a response that did
// not end. https://arxiv.org/abs/2503.14476, equation 13
std::unique_ptr<Reward> MakeOverlongReward(int64_t buffer_tokens);

// Minus the share of runs of four words that stand in the text before.
std::unique_ptr<Reward> MakeRepetitionReward();

// 0 or 1 with equal chances, by the response's random key: what training makes of noise.
std::unique_ptr<Reward> MakeRandomReward();

}  // namespace conclave::rl
