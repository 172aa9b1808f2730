// SPDX-License-Identifier: Apache-2.0
#include "rl/rollout_text.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

#include "core/base/json_tree.h"
#include "core/base/status_macros.h"

namespace conclave::rl {
namespace {

constexpr core::JsonLimits kLineLimits = {.max_bytes = size_t{64} << 20, .max_depth = 8};

constexpr std::string_view kEndings[] = {"end_token", "stop_text", "max_tokens"};

nlohmann::ordered_json ToJson(const Group& group, const Episode& episode, std::span<const std::string> rewards) {
  nlohmann::ordered_json json;
  json["draw"] = group.draw;
  json["sample"] = episode.completion.sample;
  json["version"] = episode.version;
  json["ending"] = std::string(EndingText(episode.completion.ending));
  json["reward"] = episode.reward;
  for (size_t i = 0; i < rewards.size(); ++i) json["rewards"][rewards[i]] = episode.parts[i];
  json["reason"] = episode.reason;
  json["failed"] = episode.failed;
  json["counted"] = episode.counted;
  json["kept"] = group.kept;
  json["answer"] = group.answer;
  json["response"] = episode.text;
  json["prompt_ids"] = group.prompt;
  json["ids"] = episode.completion.tokens;
  json["log_probs"] = episode.completion.log_probs;
  if (!episode.completion.filtered_log_probs.empty()) {
    json["filtered_log_probs"] = episode.completion.filtered_log_probs;
  }
  json["entropy"] = episode.completion.entropy;
  return json;
}

// Throws what nlohmann throws where a field is missing or of another type.
void ReadLine(const nlohmann::json& json, std::span<const std::string> rewards, std::vector<Group>& groups) {
  const int64_t draw = json.at("draw");
  if (groups.empty() || groups.back().draw != draw) {
    groups.push_back(
        {.draw = draw, .prompt = json.at("prompt_ids"), .answer = json.at("answer"), .kept = json.at("kept")});
  }
  Episode& episode = groups.back().episodes.emplace_back();
  episode.completion = {
      .draw = draw, .sample = json.at("sample"), .tokens = json.at("ids"), .log_probs = json.at("log_probs")};
  if (json.contains("filtered_log_probs")) {
    json.at("filtered_log_probs").get_to(episode.completion.filtered_log_probs);
  }
  episode.completion.entropy = json.at("entropy");
  episode.text = json.at("response");
  episode.reward = json.at("reward");
  for (const std::string& name : rewards) episode.parts.push_back(json.at("rewards").at(name));
  episode.reason = json.at("reason");
  episode.failed = json.at("failed").get<std::vector<bool>>();
  episode.counted = json.at("counted");
  episode.version = json.at("version");
  const std::string ending = json.at("ending");
  for (size_t i = 0; i < std::size(kEndings); ++i) {
    if (ending == kEndings[i]) episode.completion.ending = static_cast<Ending>(i);
  }
}

}  // namespace

std::string_view EndingText(Ending ending) { return kEndings[static_cast<size_t>(ending)]; }

std::string WriteGroups(std::span<const Group> groups, std::span<const std::string> rewards) {
  std::string lines;
  for (const Group& group : groups) {
    for (const Episode& episode : group.episodes) {
      lines += ToJson(group, episode, rewards).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    }
  }
  return lines;
}

absl::StatusOr<std::vector<Group>> ReadGroups(std::string_view lines, std::span<const std::string> rewards,
                                              std::string_view name) {
  std::vector<Group> groups;
  for (int64_t number = 1; !lines.empty(); ++number) {
    const size_t end = lines.find('\n');
    const std::string_view line = lines.substr(0, end);
    lines = end == std::string_view::npos ? std::string_view() : lines.substr(end + 1);
    ASSIGN_OR_RETURN(const nlohmann::json json,
                     core::ParseJson(line, {.name = name, .first_line = number}, kLineLimits));
    try {
      ReadLine(json, rewards, groups);
    } catch (const nlohmann::json::exception& error) {
      return absl::DataLossError(absl::StrFormat("%s:%d: is not a line of a rollout: %s", name, number, error.what()));
    }
  }
  return groups;
}

}  // namespace conclave::rl
