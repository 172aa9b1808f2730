// SPDX-License-Identifier: Apache-2.0
// Episodes as JSON lines and back, to the bit: what ranks send each other, what a run keeps, and what other programs
// read. One line per episode:
//   {"draw": 0, "sample": 0, "version": 0, "ending": "end_token", "reward": 1.0, "rewards": {"math": 1.0},
//    "reason": "...", "failed": [false], "counted": true, "kept": true, "answer": "579", "response": "...",
//    "prompt_ids": [...], "ids": [...], "log_probs": [...]}
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "rl/episode.h"

namespace conclave::rl {

std::string_view EndingText(Ending ending);  // end_token | stop_text | max_tokens

// `rewards`: names of the parts of each episode. Text that is not UTF-8 is written with U+FFFD in its place.
std::string WriteGroups(std::span<const Group> groups, std::span<const std::string> rewards);

// Lines of one group follow each other. Errors: "name:line: what is wrong".
absl::StatusOr<std::vector<Group>> ReadGroups(std::string_view lines, std::span<const std::string> rewards,
                                              std::string_view name);

}  // namespace conclave::rl
