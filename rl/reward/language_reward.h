// SPDX-License-Identifier: Apache-2.0
// Language consistency, as in DeepSeek-R1: the share of the letters of the thoughts that are in the script of the
// wanted language. Formulas and commands do not count. Languages of one script are not told apart.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"

#include "rl/reward/reward.h"

namespace conclave::rl {

// `language` is a code of two letters: "en". 1 for thoughts without letters: none of them is of another script.
absl::StatusOr<std::unique_ptr<Reward>> MakeLanguageReward(const std::string& language);

}  // namespace conclave::rl
