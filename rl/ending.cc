// SPDX-License-Identifier: Apache-2.0
#include "rl/ending.h"

#include <algorithm>
#include <string>

namespace conclave::rl {
namespace {

// Only texts that the last token completes matter: those before it would have ended the completion.
bool EndsWithStop(const EndingRule& rule, const Completion& completion) {
  size_t longest = 0;
  for (const std::string& stop : rule.stop) longest = std::max(longest, stop.size());
  std::string tail;
  size_t last_token = 0;
  for (size_t i = completion.tokens.size(); i-- > 0 && tail.size() < longest + last_token;) {
    const std::string text = rule.tokenizer->TokenText(completion.tokens[i]);
    if (tail.empty()) last_token = text.size();
    tail.insert(0, text);
  }
  for (const std::string& stop : rule.stop) {
    const size_t found = tail.rfind(stop);
    if (found != std::string::npos && found + stop.size() + last_token > tail.size()) return true;
  }
  return false;
}

}  // namespace

bool EndingRule::operator()(const Completion& completion, Ending& ending) const {
  if (std::find(end_tokens.begin(), end_tokens.end(), completion.tokens.back()) != end_tokens.end()) {
    ending = Ending::kEndToken;
    return true;
  }
  if (!stop.empty() && EndsWithStop(*this, completion)) {
    ending = Ending::kStopText;
    return true;
  }
  ending = Ending::kMaxTokens;
  return static_cast<int64_t>(completion.tokens.size()) >= max_tokens;
}

}  // namespace conclave::rl
