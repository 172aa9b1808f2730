// SPDX-License-Identifier: Apache-2.0
// Rewards of 1 for the right answer, else 0: by mathematical equivalence, by text, by value. Only the answer of a
// finished response counts.
#pragma once

#include <memory>
#include <string_view>

#include "rl/reward/answer_extraction.h"
#include "rl/reward/reward.h"

namespace conclave::rl {

std::unique_ptr<Reward> MakeMathReward(AnswerFallback fallback);
std::unique_ptr<Reward> MakeExactReward(AnswerFallback fallback);    // white space apart, the same text
std::unique_ptr<Reward> MakeNumericReward(AnswerFallback fallback);  // equal within 1e-6 of the expected value

// One answer against the expected one, as each of these rewards compares them.
Score CompareMathAnswer(std::string_view expected, std::string_view answer);
Score CompareExactAnswer(std::string_view expected, std::string_view answer);
Score CompareNumericAnswer(std::string_view expected, std::string_view answer);

}  // namespace conclave::rl
