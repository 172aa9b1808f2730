// SPDX-License-Identifier: Apache-2.0
#include "launch/replay.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "core/base/log.h"
#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/file_io.h"
#include "core/config/yaml.h"
#include "core/model/decoder.h"
#include "data/chat_template.h"
#include "launch/banner.h"
#include "launch/model_loading.h"
#include "launch/run_folder.h"
#include "launch/run_parts.h"
#include "launch/usage_error.h"
#include "rl/rollout_store.h"
#include "rl/rollout_text.h"
#include "rl/sampler.h"

namespace conclave::launch {
namespace {

using rl::Episode;
using rl::Group;

// What the run has kept of the sample.
struct Kept {
  Group group;  // with this one episode
  int64_t samples_of_step = 0;

  const Episode& episode() const { return group.episodes[0]; }
};

absl::StatusOr<core::Config> ReadRunConfig(const std::string& dir) {
  const std::string path = RunFolder::At(dir).ConfigPath();
  if (!core::FileExists(path)) return absl::NotFoundError(dir + " is not a run folder: it has no config.yaml");
  ASSIGN_OR_RETURN(core::Config config, core::LoadConfig(path, {}));
  if (!config.TrainsOnRollouts()) {
    return UsageError(
        absl::StrFormat("%s is a run of stage %s; rollouts of a step are drawn in stage grpo, and in stage "
                        "distill with distill.source: student",
                        dir, config.stage));
  }
  config.parallel = {};  // never changes a bit
  return config;
}

absl::StatusOr<Kept> FindSample(const ReplayOptions& options, const std::vector<std::string>& rewards) {
  const std::string path = rl::RolloutStore(RunFolder::At(options.dir).RolloutsPath(), "").PathOf(options.step);
  if (!core::FileExists(path)) {
    return absl::NotFoundError(
        absl::StrFormat("--step: there are no rollouts of step %d: no file %s", options.step, path));
  }
  ASSIGN_OR_RETURN(const std::string lines, rl::RolloutStore::LoadAny(path));
  ASSIGN_OR_RETURN(const std::vector<Group> groups, rl::ReadGroups(lines, rewards, path));
  Kept kept;
  std::optional<Group> found;
  for (const Group& group : groups) {
    for (const Episode& episode : group.episodes) {
      const int64_t number = options.draw ? episode.completion.sample : kept.samples_of_step;
      if (number == options.sample && group.draw == options.draw.value_or(group.draw)) {
        found = Group{.draw = group.draw, .prompt = group.prompt, .answer = group.answer, .episodes = {episode}};
      }
      ++kept.samples_of_step;
    }
  }
  if (found) {
    kept.group = *std::move(found);
    return kept;
  }
  if (!options.draw || groups.empty()) {
    return UsageError(absl::StrFormat("--sample: step %d has %d samples, counted from 0; there is no %d", options.step,
                                      kept.samples_of_step, options.sample));
  }
  return UsageError(absl::StrFormat("--draw: step %d has draws %d to %d with %d samples each, counted from 0",
                                    options.step, groups.front().draw, groups.back().draw,
                                    groups.front().episodes.size()));
}

// The checkpoint of the weights that a sample was drawn with; "" for those that the run began with.
absl::StatusOr<std::string> FindWeights(const ReplayOptions& options, int64_t version, const core::Config& config) {
  if (version == 0) return "";
  ASSIGN_OR_RETURN(const auto steps, core::ListSteps(RunFolder::At(options.dir).CheckpointsPath()));
  std::vector<int64_t> there;
  for (const auto& [step, path] : steps) {
    if (step == version) return path;
    there.insert(there.begin(), step);
  }
  return absl::NotFoundError(absl::StrFormat(
      "the sample was drawn with the weights of step %d, of which there is no checkpoint: there are those of steps %s, "
      "for rollouts of the step after each. A run writes one every train.checkpoint_every steps (%d) and keeps the "
      "newest train.keep (%d)",
      version, there.empty() ? "none" : absl::StrJoin(there, ", "), config.train.checkpoint_every, config.train.keep));
}

// Model, tokenizer and device, with the weights of the checkpoint.
absl::Status LoadParts(core::Config& config, const std::string& checkpoint, int threads, parallel::Job& job,
                       RunParts& parts) {
  // The folder that a run began with need not be there any more.
  if (!checkpoint.empty() && !config.model.from.empty()) config.model.from = checkpoint;
  RETURN_IF_ERROR(LoadTokenizerAndModelConfig(config, parts));
  parts.model_config.num_nextn_predict_layers = 0;
  RETURN_IF_ERROR(CreateLayoutAndDevice(config, threads, job, parts));
  if (checkpoint.empty()) {
    ASSIGN_OR_RETURN(parts.model, CreateFrozenModel(config, job, parts));
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(parts.model, CreateInferenceModel(config, job, parts));
  ASSIGN_OR_RETURN(const core::CheckpointMeta meta, core::ReadCheckpointMeta(checkpoint));
  if (config.ComputePrecision() != core::Precision::kF32 && meta.device != InstructionSet(*parts.device)) {
    core::LogWarning(absl::StrFormat("the run was made on %s and this is %s: in precision %s, bits depend on that",
                                     meta.device, InstructionSet(*parts.device), config.precision));
  }
  return LoadTrainedWeights(checkpoint, *parts.model);
}

// The group of the sample, with the prompt that the config gives for its draw.
absl::StatusOr<Group> DrawAgain(const core::Config& config, const Group& kept, const rl::RewardSum& rewards,
                                RunParts& parts) {
  const auto seed = static_cast<uint64_t>(config.train.seed);
  ASSIGN_OR_RETURN(const data::PromptSet prompts,
                   data::PromptSet::Create({config.data, config.tasks, *parts.tokenizer}, seed));
  const data::Prompt prompt = prompts.At(kept.draw);
  if (prompt.ids != kept.prompt) {
    return absl::FailedPreconditionError(
        absl::StrFormat("draw %d is now %s, \"%s\", which is another prompt than the run has kept: data.prompts, tasks "
                        "or the tokenizer "
                        "have changed since",
                        kept.draw, prompt.id, prompt.text));
  }
  ASSIGN_OR_RETURN(const data::ChatTemplate chat_template,
                   data::ChatTemplate::Choose(config.data.chat_template, *parts.tokenizer));
  core::RolloutConfig rollout = config.rollout;
  rollout.prompts = 1;
  ASSIGN_OR_RETURN(
      const auto sampler,
      rl::Sampler::Create(
          {.model = *parts.model, .layout = *parts.layout, .tokenizer = *parts.tokenizer, .rewards = rewards}, rollout,
          config.data.max_prompt_tokens, seed, std::string(chat_template.Prefill())));
  ASSIGN_OR_RETURN(std::vector<Group> groups,
                   sampler->Draw(kept.draw, 1, kept.episodes[0].version, [&](int64_t) { return prompt; }));
  return std::move(groups[0]);
}

// For each token of the response the likeliest ones at its place, from a forward pass.
std::vector<std::string> Alternatives(const ReplayOptions& options, const core::Config& config, const Group& kept,
                                      RunParts& parts, core::Decoder& decoder) {
  const std::vector<int32_t>& response = kept.episodes[0].completion.tokens;
  std::vector<float> logits(parts.model_config.vocab_size);
  std::vector<int32_t> order(logits.size());
  const size_t shown = std::min<size_t>(options.top, order.size());
  std::vector<std::string> all;
  decoder.Read(0, std::span(kept.prompt).first(kept.prompt.size() - 1));
  for (size_t t = 0; t < response.size() && shown > 0; ++t) {
    const int32_t before = t == 0 ? kept.prompt.back() : response[t - 1];
    decoder.Step({&before, 1});
    parts.device->CopyToHost(parts.model->stream(), decoder.logits(), logits.data());
    parts.device->Synchronize(parts.model->stream());
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    const double most = logits[order[0]];
    double sum = 0;
    for (const float logit : logits) sum += std::exp((logit - most) / config.rollout.temperature);
    std::vector<std::string> texts;
    for (size_t i = 0; i < shown; ++i) {
      const double log_prob = (logits[order[i]] - most) / config.rollout.temperature - std::log(sum);
      texts.push_back(absl::StrFormat("%s %.3f", core::Quoted(parts.tokenizer->TokenText(order[i])), log_prob));
    }
    all.push_back(absl::StrJoin(texts, ", "));
  }
  return all;
}

bool SameBits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }

struct Place {
  int32_t id = -1;
  float log_prob = 0;
};

Place PlaceOf(const rl::Completion& completion, size_t t) {
  return t < completion.tokens.size() ? Place{completion.tokens[t], completion.log_probs[t]} : Place{};
}

std::string TextOf(const Place& place, const data::Tokenizer& tokenizer) {
  if (place.id < 0) return "nothing";
  return absl::StrFormat("%6d %-12s %14.9g", place.id, core::Quoted(tokenizer.TokenText(place.id)), place.log_prob);
}

// Prints all tokens and returns how many differ.
int64_t PrintTokens(const rl::Completion& kept, const rl::Completion& drawn, const data::Tokenizer& tokenizer,
                    const std::vector<std::string>& alternatives) {
  int64_t differing = 0;
  PrintLine(absl::StrFormat("%4s %6s %-12s %14s%s", "", "id", "token", "log-prob",
                            alternatives.empty() ? "" : "   likeliest"));
  for (size_t t = 0; t < std::max(kept.tokens.size(), drawn.tokens.size()); ++t) {
    const Place before = PlaceOf(kept, t), now = PlaceOf(drawn, t);
    const bool same = before.id == now.id && SameBits(before.log_prob, now.log_prob);
    differing += !same;
    PrintLine(absl::StrFormat("%4d %s%s%s%s", t, TextOf(before, tokenizer), t < alternatives.size() ? "   " : "",
                              t < alternatives.size() ? alternatives[t] : "",
                              same ? "" : "\n     now " + TextOf(now, tokenizer) + "   DIFFERENT"));
  }
  return differing;
}

// "0.6 = 1 x math 1 + 0.1 x format -4"
std::string RewardText(const Episode& episode, const core::Config& config, const std::vector<std::string>& names) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < names.size(); ++i) {
    parts.push_back(absl::StrFormat("%g x %s %g", config.reward[i].weight, names[i], episode.parts[i]));
  }
  std::string text = absl::StrFormat("%g = %s", episode.reward, absl::StrJoin(parts, " + "));
  return episode.reason.empty() ? text : absl::StrCat(text, ": ", episode.reason);
}

// What differs beside tokens and their log-probabilities; empty if nothing does.
std::vector<std::string> OtherDifferences(const Episode& kept, const Episode& drawn) {
  std::vector<std::string> differing;
  const auto filtered = [](const Episode& episode) { return episode.completion.filtered_log_probs; };
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), SameBits);
  };
  if (kept.completion.ending != drawn.completion.ending) differing.push_back("how it ends");
  if (!same(filtered(kept), filtered(drawn))) differing.push_back("filtered log-probabilities");
  if (kept.completion.entropy != drawn.completion.entropy) differing.push_back("entropy");
  if (kept.parts != drawn.parts || kept.reward != drawn.reward) differing.push_back("reward");
  return differing;
}

ExitCode Print(const Kept& kept, const Episode& drawn, const core::Config& config,
               const std::vector<std::string>& names, const RunParts& parts,
               const std::vector<std::string>& alternatives) {
  const Episode& episode = kept.episode();
  PrintLabelled("prompt", core::Quoted(data::Decode(*parts.tokenizer, kept.group.prompt)));
  PrintLabelled("answer", core::Quoted(kept.group.answer));
  const int64_t tokens = PrintTokens(episode.completion, drawn.completion, *parts.tokenizer, alternatives);
  PrintLabelled("response", core::Quoted(episode.text));
  PrintLabelled("ending", rl::EndingText(episode.completion.ending));
  PrintLabelled("reward", RewardText(episode, config, names));
  const std::vector<std::string> others = OtherDifferences(episode, drawn);
  if (episode.parts != drawn.parts) PrintLabelled("", "now " + RewardText(drawn, config, names));
  if (tokens == 0 && others.empty()) {
    PrintLabelled("equal", absl::StrFormat("%d tokens, their log-probabilities and the reward, to the bit",
                                           episode.completion.tokens.size()));
    return ExitCode::kDone;
  }
  std::vector<std::string> all = others;
  if (tokens > 0) all.insert(all.begin(), absl::StrFormat("%d tokens or their log-probabilities", tokens));
  PrintLabelled("DIFFERENT", absl::StrJoin(all, ", "));
  return ExitCode::kFailed;
}

}  // namespace

absl::StatusOr<ExitCode> Replay(const ReplayOptions& options, parallel::Job& job) {
  ASSIGN_OR_RETURN(core::Config config, ReadRunConfig(options.dir));
  ASSIGN_OR_RETURN(const rl::RewardSum rewards, rl::RewardSum::Create(config.reward));
  const std::vector<std::string> names = rewards.Names();
  ASSIGN_OR_RETURN(const Kept kept, FindSample(options, names));
  const int64_t version = kept.episode().version;
  ASSIGN_OR_RETURN(const std::string checkpoint, FindWeights(options, version, config));
  RunParts parts;
  RETURN_IF_ERROR(LoadParts(config, checkpoint, options.threads, job, parts));
  ASSIGN_OR_RETURN(const Group drawn, DrawAgain(config, kept.group, rewards, parts));
  const rl::Completion& completion = kept.episode().completion;
  const auto capacity = static_cast<int64_t>(kept.group.prompt.size() + completion.tokens.size());
  ASSIGN_OR_RETURN(const auto decoder, core::Decoder::Create(*parts.model, 1, capacity));
  const std::vector<std::string> alternatives = Alternatives(options, config, kept.group, parts, *decoder);
  PrintLabelled("sample", absl::StrFormat("%d of draw %d, in step %d (%d samples)", completion.sample, kept.group.draw,
                                          options.step, kept.samples_of_step));
  PrintLabelled("weights", checkpoint.empty() ? std::string("those that the run began with") : checkpoint);
  return Print(kept, drawn.episodes[completion.sample], config, names, parts, alternatives);
}

}  // namespace conclave::launch
