// SPDX-License-Identifier: Apache-2.0
// Where a response ends: at an end token, behind a text that stops it, or at the limit. A pure function of its tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "rl/completion.h"

namespace conclave::rl {

struct EndingRule {
  std::vector<int32_t> end_tokens = {};  // empty: none ends anything
  std::vector<std::string> stop = {};    // texts, not empty
  int64_t max_tokens = 1;
  const data::Tokenizer* tokenizer = nullptr;  // with `stop`

  // Whether the response ends with its last token, and how.
  bool operator()(const Completion& completion, Ending& ending) const;
};

}  // namespace conclave::rl
