// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/reward.h"

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/quoted.h"
#include "core/config/nearest.h"
#include "rl/reward/answer_rewards.h"
#include "rl/reward/form_rewards.h"
#include "rl/reward/language_reward.h"
#include "rl/reward/program_reward.h"

namespace conclave::rl {
namespace {

absl::Status UnknownName(const std::string& name) {
  const std::vector<std::string> names = RewardNames();
  const std::string_view nearest = core::Nearest(name, names);
  return absl::InvalidArgumentError(absl::StrFormat(
      "name: %s is unknown%s; choose from %s", core::Quoted(name),
      nearest.empty() ? "" : absl::StrFormat(" (did you mean %s?)", nearest), absl::StrJoin(names, ", ")));
}

absl::Status NeedsTokens(std::string_view key, std::string_view reward) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: name: %s needs it; give a number of tokens that is at least 1", key, reward));
}

}  // namespace

std::string_view Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kRight:
      return "right";
    case Outcome::kWrong:
      return "wrong";
    case Outcome::kNoAnswer:
      return "no answer";
    case Outcome::kUnfinished:
      return "unfinished";
    case Outcome::kUnparsedAnswer:
      return "answer not understood";
    case Outcome::kUnparsedGold:
      return "expected answer not understood";
    case Outcome::kBudgetSpent:
      return "too much work";
    case Outcome::kVerifierFailed:
      return "verifier failed";
    case Outcome::kScored:
      return "scored";
  }
  return "";
}

std::vector<std::string> RewardNames() {
  return {"math", "exact", "numeric", "format", "language", "length", "overlong", "repetition", "random", "program"};
}

absl::StatusOr<std::unique_ptr<Reward>> CreateReward(const core::RewardConfig& config) {
  const AnswerFallback fallback =
      config.fallback == "last_number" ? AnswerFallback::kLastNumber : AnswerFallback::kNone;
  if (config.name == "math") return MakeMathReward(fallback);
  if (config.name == "exact") return MakeExactReward(fallback);
  if (config.name == "numeric") return MakeNumericReward(fallback);
  if (config.name == "format") return MakeFormatReward();
  if (config.name == "language") return MakeLanguageReward(config.language);
  if (config.name == "repetition") return MakeRepetitionReward();
  if (config.name == "random") return MakeRandomReward();
  if (config.name == "program") return MakeProgramReward(config);
  if (config.name == "length") {
    if (config.target_tokens < 1) return NeedsTokens("target_tokens", config.name);
    return MakeLengthReward(config.target_tokens);
  }
  if (config.name == "overlong") {
    if (config.buffer_tokens < 1) return NeedsTokens("buffer_tokens", config.name);
    return MakeOverlongReward(config.buffer_tokens);
  }
  return UnknownName(config.name);
}

}  // namespace conclave::rl
