// SPDX-License-Identifier: Apache-2.0
#include "rl/sampler.h"

#include <chrono>
#include <utility>

#include "core/base/rng.h"
#include "core/base/status_macros.h"
#include "rl/rollout_text.h"

namespace conclave::rl {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr int64_t kDecodeSlots = 256;

}  // namespace

absl::StatusOr<std::unique_ptr<Sampler>> Sampler::Create(const Parts& parts, const core::RolloutConfig& rollout,
                                                         int64_t max_prompt_tokens, uint64_t seed,
                                                         std::string prefill) {
  std::unique_ptr<Sampler> sampler(new Sampler(parts, rollout, seed, std::move(prefill)));
  sampler->ending_ = {.stop = rollout.stop, .max_tokens = rollout.max_tokens, .tokenizer = &parts.tokenizer};
  if (!rollout.ignore_eos && parts.tokenizer.eos_id() >= 0) sampler->ending_.end_tokens = {parts.tokenizer.eos_id()};
  const int64_t data_ranks = parts.layout.mesh().shape().data;
  const int64_t samples = (rollout.prompts + data_ranks - 1) / data_ranks * rollout.group;
  ASSIGN_OR_RETURN(sampler->generator_,
                   Generator::Create(parts.model, parts.layout,
                                     {.seed = seed,
                                      .temperature = static_cast<float>(rollout.temperature),
                                      .top_p = static_cast<float>(rollout.top_p),
                                      .min_p = static_cast<float>(rollout.min_p),
                                      .top_k = static_cast<int>(rollout.top_k),
                                      .decode_slots = rollout.decode_batch > 0 ? rollout.decode_batch
                                                                               : std::min(samples, kDecodeSlots),
                                      .max_prompt_tokens = max_prompt_tokens,
                                      .max_tokens = rollout.max_tokens,
                                      .max_samples = rollout.group}));
  return sampler;
}

absl::StatusOr<std::vector<Group>> Sampler::Draw(int64_t first, int64_t count, int64_t version,
                                                 const PromptOf& prompt_of) {
  const parallel::MeshPlace place = parts_.layout.place();
  const int64_t ranks = parts_.layout.mesh().shape().data;
  const int64_t begin = first + count * place.data / ranks, end = first + count * (place.data + 1) / ranks;
  const Clock::time_point start = Clock::now();
  std::vector<std::string> prompt_texts;
  std::vector<Group> groups = Generate(begin, end, version, prompt_of, prompt_texts);
  seconds_.generate += SecondsSince(start);
  const Clock::time_point scoring = Clock::now();
  if (place.pipeline == 0) ScoreGroups(groups, prompt_texts);
  const std::vector<std::string> names = RewardNames();
  std::vector<Group> all;
  for (const std::string& lines :
       parts_.layout.all().GatherTexts(place.pipeline == 0 ? WriteGroups(groups, names) : "")) {
    ASSIGN_OR_RETURN(std::vector<Group> part, ReadGroups(lines, names, "rollout"));
    for (Group& group : part) all.push_back(std::move(group));
  }
  seconds_.score += SecondsSince(scoring);
  RETURN_IF_ERROR(CheckFailures(all));
  return all;
}

std::vector<Group> Sampler::Generate(int64_t begin, int64_t end, int64_t version, const PromptOf& prompt_of,
                                     std::vector<std::string>& prompt_texts) {
  std::vector<Group> groups;
  std::vector<Request> requests;
  for (int64_t draw = begin; draw < end; ++draw) {
    data::Prompt prompt = prompt_of(draw);
    groups.push_back({.draw = draw, .prompt = prompt.ids, .answer = std::move(prompt.answer)});
    requests.push_back({.draw = draw, .samples = rollout_.group, .prompt = std::move(prompt.ids)});
    prompt_texts.push_back(std::move(prompt.text));
  }
  std::vector<Completion> completions = generator_->Generate(std::move(requests), ending_);
  for (size_t i = 0; i < completions.size(); ++i) {
    Episode& episode = groups[i / rollout_.group].episodes.emplace_back();
    episode.text = prefill_ + data::Decode(parts_.tokenizer, completions[i].tokens);
    episode.version = version;
    episode.completion = std::move(completions[i]);
  }
  return groups;
}

void Sampler::ScoreGroups(std::vector<Group>& groups, const std::vector<std::string>& prompt_texts) const {
  std::vector<Response> responses;
  std::vector<Episode*> episodes;
  for (size_t g = 0; g < groups.size(); ++g) {
    for (Episode& episode : groups[g].episodes) {
      const Completion& completion = episode.completion;
      const int64_t name = DrawId(completion.draw, completion.sample, 0);
      responses.push_back({.prompt = prompt_texts[g],
                           .text = episode.text,
                           .answer = groups[g].answer,
                           .finished = completion.ending != Ending::kMaxTokens,
                           .tokens = static_cast<int64_t>(completion.tokens.size()),
                           .max_tokens = rollout_.max_tokens,
                           .random_key = core::RandomKey(seed_, core::RandomPurpose::kSampling, 1 + name)});
      episodes.push_back(&episode);
    }
  }
  const ScoredBatch scored = parts_.rewards.ScoreAll(responses);
  for (size_t i = 0; i < episodes.size(); ++i) {
    Episode& episode = *episodes[i];
    episode.reward = scored.totals[i];
    episode.counted = !scored.masked[i];
    for (const std::vector<Score>& part : scored.parts) {
      episode.parts.push_back(part[i].value);
      episode.failed.push_back(part[i].outcome == Outcome::kVerifierFailed);
      const std::string& reason = part[i].reason.empty() ? std::string(Name(part[i].outcome)) : part[i].reason;
      if (part[i].outcome != Outcome::kScored) episode.reason += (episode.reason.empty() ? "" : "; ") + reason;
    }
  }
  // A group is compared within itself: without one of its samples it would lean to one side.
  for (Group& group : groups) {
    bool counted = true;
    for (const Episode& episode : group.episodes) counted = counted && episode.counted;
    for (Episode& episode : group.episodes) episode.counted = counted;
  }
}

absl::Status Sampler::CheckFailures(const std::vector<Group>& groups) const {
  for (size_t reward = 0; reward < parts_.rewards.size(); ++reward) {
    int64_t failed = 0, responses = 0;
    for (const Group& group : groups) {
      for (const Episode& episode : group.episodes) {
        ++responses;
        failed += episode.failed[reward];
      }
    }
    RETURN_IF_ERROR(parts_.rewards.CheckFailures(reward, failed, responses));
  }
  return absl::OkStatus();
}

}  // namespace conclave::rl
