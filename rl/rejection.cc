// SPDX-License-Identifier: Apache-2.0
#include "rl/rejection.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "nlohmann/json.hpp"

#include "core/base/rng.h"
#include "rl/evaluation.h"

namespace conclave::rl {
namespace {

std::string Line(const data::Prompt& prompt, const Episode& episode) {
  nlohmann::ordered_json json;
  json["prompt"] = prompt.text;
  json["response"] = episode.text;
  json["answer"] = prompt.answer;
  json["reward"] = episode.reward;
  json["draw"] = episode.completion.draw;
  json["sample"] = episode.completion.sample;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

std::vector<const Episode*> ShortestFirst(const Group& group) {
  std::vector<const Episode*> episodes;
  for (const Episode& episode : group.episodes) episodes.push_back(&episode);
  std::stable_sort(episodes.begin(), episodes.end(), [](const Episode* a, const Episode* b) {
    return a->completion.tokens.size() < b->completion.tokens.size();
  });
  return episodes;
}

}  // namespace

void RejectionCounts::Add(const RejectionCounts& more) {
  for (int64_t RejectionCounts::*count :
       {&RejectionCounts::prompts, &RejectionCounts::samples, &RejectionCounts::tokens, &RejectionCounts::unfinished,
        &RejectionCounts::wrong, &RejectionCounts::unreadable, &RejectionCounts::accepted, &RejectionCounts::repeated,
        &RejectionCounts::kept, &RejectionCounts::kept_tokens, &RejectionCounts::answered}) {
    this->*count += more.*count;
  }
}

RejectionCounts Rejection::Select(std::span<const Group> groups, const Sampler::PromptOf& prompt_of,
                                  std::string& lines) {
  RejectionCounts counts{.prompts = static_cast<int64_t>(groups.size())};
  for (const Group& group : groups) {
    const data::Prompt prompt = prompt_of(group.draw);
    int64_t kept = 0;
    for (const Episode* episode : ShortestFirst(group)) {
      ++counts.samples;
      counts.tokens += static_cast<int64_t>(episode->completion.tokens.size());
      const Verdict verdict = Judge(group, *episode, prompt.text);
      counts.unfinished += verdict == Verdict::kUnfinished;
      counts.wrong += verdict == Verdict::kWrong;
      counts.unreadable += verdict == Verdict::kUnreadable;
      if (verdict != Verdict::kAccepted) continue;
      ++counts.accepted;
      const bool is_new = seen_.insert(prompt.text + '\0' + episode->text).second;
      counts.repeated += !is_new;
      if (!is_new || kept == keep_) continue;
      ++kept;
      counts.kept_tokens += static_cast<int64_t>(episode->completion.tokens.size());
      lines += Line(prompt, *episode);
    }
    counts.kept += kept;
    counts.answered += kept > 0;
  }
  return counts;
}

Rejection::Verdict Rejection::Judge(const Group& group, const Episode& episode, const std::string& prompt) {
  if (episode.completion.ending == Ending::kMaxTokens) return Verdict::kUnfinished;
  if (!episode.counted || !Solved(episode)) return Verdict::kWrong;
  return GivesItsTokens(group, episode, prompt) ? Verdict::kAccepted : Verdict::kUnreadable;
}

bool Rejection::GivesItsTokens(const Group& group, const Episode& episode, const std::string& prompt) {
  if (absl::StripAsciiWhitespace(episode.text).empty()) return false;
  std::vector<data::Message> messages;
  if (!system_.empty()) messages.push_back({data::Role::kSystem, system_});
  messages.push_back({data::Role::kUser, prompt});
  messages.push_back({data::Role::kAssistant, episode.text});
  std::vector<int32_t> drawn = group.prompt;
  drawn.insert(drawn.end(), episode.completion.tokens.begin(), episode.completion.tokens.end());
  if (episode.completion.ending != Ending::kEndToken) drawn.push_back(end_token_);
  std::vector<int32_t> ids;
  for (const data::ChatPart& part : chat_template_.RenderParts(messages)) {
    if (ids.empty()) {
      encoder_->Encode(part.text, data::Parse::kSpecial, ids);
    } else {
      encoder_->EncodeRest(part.text, data::Parse::kSpecial, ids);
    }
    if (part.speaker == data::ChatPart::Speaker::kAssistant) break;
  }
  return ids == drawn;
}

uint64_t RejectionSeed(int64_t seed) {
  return core::RandomKey(static_cast<uint64_t>(seed), core::RandomPurpose::kSampling, 0);
}

}  // namespace conclave::rl
