// SPDX-License-Identifier: Apache-2.0
// What a response is worth. A reward is a pure function of a batch of responses; what it could not judge it says by the
// outcome, never by a guess. Weights add several up.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

#include "core/config/rl_config.h"

namespace conclave::rl {

struct Response {
  std::string_view prompt;
  std::string_view text;    // what the template wrote ahead of the response, and the response, without special tokens
  std::string_view answer;  // the expected one
  bool finished = true;     // ended by itself, not by max_tokens
  int64_t tokens = 0, max_tokens = 0;  // of the response; the most it may have
  uint64_t random_key = 0;             // its own, for the reward `random`
};

enum class Outcome {
  kRight,
  kWrong,
  kNoAnswer,
  kUnfinished,
  kUnparsedAnswer,
  kUnparsedGold,
  kBudgetSpent,     // the comparison would have taken more work than allowed
  kVerifierFailed,  // the program of the reward `program`
  kScored,          // by a reward that knows no right and wrong
};
inline constexpr int kNumOutcomes = static_cast<int>(Outcome::kScored) + 1;
std::string_view Name(Outcome outcome);  // "right", "no answer"

struct Score {
  double value = 0;
  Outcome outcome = Outcome::kScored;
  std::string reason;  // "" where the outcome says it all
};

class Reward {
 public:
  virtual ~Reward() = default;

  virtual std::string_view name() const = 0;
  // One score for each response. May be called by several threads at once.
  virtual void ScoreAll(std::span<const Response> responses, std::span<Score> scores) const = 0;
};

// The names that CreateReward knows.
std::vector<std::string> RewardNames();

// An unknown name or an option that it lacks is an error.
absl::StatusOr<std::unique_ptr<Reward>> CreateReward(const core::RewardConfig& config);

// Says why the answer of a problem cannot be compared by the reward `math`.
absl::Status CheckGold(std::string_view answer);

}  // namespace conclave::rl
