// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/program_reward.h"

#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"
#include "rl/reward/child_process.h"

namespace conclave::rl {
namespace {

constexpr size_t kMaxLineBytes = 64 << 10;

// Text of a model need not be UTF-8; what is not becomes U+FFFD.
std::string InputLine(const Response& response) {
  const nlohmann::json line = {{"prompt", response.prompt}, {"response", response.text}, {"answer", response.answer}};
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Score> ParseScore(std::string_view line, int64_t number) {
  ASSIGN_OR_RETURN(const nlohmann::json object,
                   core::ParseJson(line, {.name = "its output", .first_line = number}, {.max_bytes = kMaxLineBytes}));
  const auto wrong = [number](std::string_view what) {
    return absl::InvalidArgumentError(absl::StrFormat("its output:%d: %s", number, what));
  };
  if (!object.is_object()) return wrong("not a JSON object");
  const auto reward = object.find("reward"), reason = object.find("reason");
  if (reward == object.end() || !reward->is_number()) return wrong("no number \"reward\"");
  if (reason != object.end() && !reason->is_string()) return wrong("the field \"reason\" is no text");
  return Score{.value = reward->get<double>(),
               .outcome = Outcome::kScored,
               .reason = reason == object.end() ? "" : reason->get<std::string>()};
}

class ProgramReward final : public Reward {
 public:
  explicit ProgramReward(const core::RewardConfig& config) : config_(config) {}

  std::string_view name() const override { return "program"; }

  void ScoreAll(std::span<const Response> responses, std::span<Score> scores) const override {
    if (responses.empty()) return;
    const absl::Status status = Run(responses, scores);
    if (status.ok()) return;
    for (Score& score : scores) {
      score = {0, Outcome::kVerifierFailed,
               absl::StrFormat("the verifier %s: %s", config_.command[0], status.message())};
    }
  }

 private:
  absl::Status Run(std::span<const Response> responses, std::span<Score> scores) const {
    std::string input;
    for (const Response& response : responses) input += InputLine(response);
    const ChildLimits limits{.seconds = config_.timeout_seconds,
                             .memory_bytes = config_.memory_mib << 20,
                             .output_bytes = responses.size() * kMaxLineBytes};
    ASSIGN_OR_RETURN(const std::string output, RunChild(config_.command, input, limits));
    size_t count = 0;
    for (std::string_view rest = output; !rest.empty(); ++count) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      if (count == responses.size()) return WrongCount(count + 1, responses.size());
      ASSIGN_OR_RETURN(scores[count], ParseScore(line, static_cast<int64_t>(count) + 1));
    }
    return count == responses.size() ? absl::OkStatus() : WrongCount(count, responses.size());
  }

  static absl::Status WrongCount(size_t lines, size_t responses) {
    return absl::InvalidArgumentError(
        lines > responses ? absl::StrFormat("wrote more than %d lines for %d responses", responses, responses)
                          : absl::StrFormat("wrote %d lines for %d responses", lines, responses));
  }

  const core::RewardConfig config_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Reward>> MakeProgramReward(const core::RewardConfig& config) {
  if (config.command.empty()) {
    return absl::InvalidArgumentError("command: is empty; name: program needs the program and its arguments");
  }
  const absl::Status found = CheckExecutable(config.command[0]);
  if (!found.ok()) return absl::InvalidArgumentError(absl::StrFormat("command: %s", found.message()));
  return std::make_unique<ProgramReward>(config);
}

}  // namespace conclave::rl
