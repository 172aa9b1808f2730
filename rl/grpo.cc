// SPDX-License-Identifier: Apache-2.0
#include "rl/grpo.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"

#include "core/base/exact_math.h"
#include "core/base/status_macros.h"
#include "rl/advantage.h"
#include "rl/grpo_config.h"
#include "rl/rollout_packing.h"
#include "rl/rollout_text.h"

namespace conclave::rl {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

core::PolicyRule RuleOf(const core::GrpoConfig& config) {
  core::PolicyRule rule;
  rule.ratio = config.ratio == "sequence" ? core::PolicyRule::Ratio::kSequence : core::PolicyRule::Ratio::kToken;
  rule.clip_low = config.clip.low;
  rule.clip_high = config.clip.high;
  rule.dual = config.clip.dual.value_or(0);
  rule.cap = config.clip.cap.value_or(0);
  rule.kl = config.kl.place == "loss" ? config.kl.coefficient : 0;
  rule.estimator = config.kl.estimator == "k1"   ? core::PolicyRule::Kl::kK1
                   : config.kl.estimator == "k2" ? core::PolicyRule::Kl::kK2
                                                 : core::PolicyRule::Kl::kK3;
  return rule;
}

template <class Visit>
void ForEachEpisode(std::vector<Group>& groups, const Visit& visit) {
  for (Group& group : groups) {
    for (Episode& episode : group.episodes) visit(group, episode);
  }
}

}  // namespace

Grpo::Grpo(Parts parts, const core::Config& config) : parts_(std::move(parts)), config_(config) {
  parts_.trainer.SetPolicy(RuleOf(config.grpo), static_cast<float>(config.rollout.temperature));
}

absl::StatusOr<GrpoMetrics> Grpo::Step(int64_t step, int64_t& next_draw) {
  GrpoMetrics metrics{.step = step};
  const SamplerSeconds before = parts_.sampler.seconds();
  RETURN_IF_ERROR(Rollout(step, next_draw, metrics));
  metrics.generate_seconds = parts_.sampler.seconds().generate - before.generate;
  metrics.score_seconds = parts_.sampler.seconds().score - before.score;
  const Clock::time_point start = Clock::now();
  Weigh(step, metrics);
  RETURN_IF_ERROR(Update(step, metrics));
  metrics.update_seconds = SecondsSince(start);
  DescribeRollout(groups_, step, config_.reward.size(), metrics);
  return metrics;
}

absl::StatusOr<std::string> Grpo::StoredLines(int64_t step) const {
  std::string text;
  absl::Status status;
  if (parts_.store != nullptr) {
    const absl::StatusOr<std::optional<std::string>> stored = parts_.store->Load(step);
    status = stored.status();
    if (stored.ok()) text = stored->value_or("");
  }
  // Rank 0 decides for all; what it cannot read is an error of all.
  const std::string mark = status.ok() ? "+" + text : "-" + std::string(status.message());
  const std::string first = parts_.layout.all().GatherTexts(parts_.layout.all().rank() == 0 ? mark : "")[0];
  if (first.starts_with("-")) return absl::UnavailableError(first.substr(1));
  return first.substr(1);
}

absl::Status Grpo::Rollout(int64_t step, int64_t& next_draw, GrpoMetrics& metrics) {
  ASSIGN_OR_RETURN(std::string lines, StoredLines(step));
  metrics.kept_rollout = !lines.empty();
  const int64_t ages = config_.grpo.off_policy.max_age + 1, in_block = (step - 1) % ages;
  const std::vector<std::string> names = parts_.sampler.RewardNames();
  if (lines.empty() && ages == 1) {
    ASSIGN_OR_RETURN(groups_, DrawGroups(step - 1, next_draw));
    if (parts_.store != nullptr) RETURN_IF_ERROR(parts_.store->Save(step, WriteGroups(groups_, names)));
  } else if (lines.empty()) {
    if (in_block != 0) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "the rollout of step %d, drawn %d steps before it (grpo.off_policy.max_age), is not in the run folder any "
          "more; go on from an earlier checkpoint",
          step, in_block));
    }
    RETURN_IF_ERROR(DrawAndStore(step, next_draw));
    ASSIGN_OR_RETURN(lines, StoredLines(step));
  }
  if (!lines.empty()) {
    ASSIGN_OR_RETURN(groups_, ReadGroups(lines, names, absl::StrFormat("rollout of step %d", step)));
    if (!groups_.empty()) next_draw = groups_.back().draw + 1;
  }
  metrics.rounds = (static_cast<int64_t>(groups_.size()) + config_.rollout.prompts - 1) / config_.rollout.prompts;
  return absl::OkStatus();
}

// Rollouts of this step and of those that may use samples as old as theirs will be.
absl::Status Grpo::DrawAndStore(int64_t step, int64_t next_draw) {
  const std::vector<std::string> names = parts_.sampler.RewardNames();
  for (int64_t i = 0; i <= config_.grpo.off_policy.max_age; ++i) {
    ASSIGN_OR_RETURN(const std::vector<Group> groups, DrawGroups(step - 1, next_draw));
    if (parts_.store != nullptr) RETURN_IF_ERROR(parts_.store->Save(step + i, WriteGroups(groups, names)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Group>> Grpo::DrawGroups(int64_t version, int64_t& next_draw) {
  const core::DynamicSamplingConfig& dynamic = config_.grpo.dynamic_sampling;
  const int64_t prompts = config_.rollout.prompts;
  std::vector<Group> groups;
  int64_t kept = 0;
  for (int64_t round = 0; round == 0 || (dynamic.enabled && round < dynamic.max_rounds && kept < prompts); ++round) {
    ASSIGN_OR_RETURN(std::vector<Group> drawn, parts_.sampler.Draw(next_draw, prompts, version, parts_.prompt_of));
    next_draw += prompts;
    for (Group& group : drawn) {  // in the order of draws, never of completion
      group.kept = !dynamic.enabled || (HasSpread(group) && kept < prompts);
      kept += group.kept;
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

void Grpo::ComputeLogProbs(optim::LogProbs& log_probs, std::vector<float> Episode::*into) {
  // In batches no larger than those of the trainer.
  const int64_t prompts = config_.rollout.prompts;
  for (size_t begin = 0; begin < groups_.size(); begin += prompts) {
    const std::span<Group> some = std::span(groups_).subspan(begin, std::min<size_t>(prompts, groups_.size() - begin));
    PackedBatch packed = PackEpisodes(some, config_.data.sequence_length);
    if (packed.episodes.empty()) continue;
    std::vector<float> values(packed.batch.tokens.size());
    log_probs.Compute(packed.batch, static_cast<float>(config_.rollout.temperature), values);
    for (const PackedEpisode& episode : packed.episodes) {
      const auto first = values.begin() + episode.first_label;
      (episode.episode->*into).assign(first, first + episode.episode->completion.tokens.size());
    }
  }
}

void Grpo::Weigh(int64_t step, GrpoMetrics& metrics) {
  const core::GrpoConfig& grpo = config_.grpo;
  ForEachEpisode(groups_, [&](Group&, Episode& episode) {
    if (grpo.truncated == "mask" && episode.completion.ending == Ending::kMaxTokens) episode.counted = false;
  });
  ComputeOldLogProbs(step, metrics);
  if (grpo.off_policy.correction == "truncate") Correct();
  if (parts_.teacher != nullptr) return;
  if (parts_.reference != nullptr) ComputeLogProbs(*parts_.reference, &Episode::reference_log_probs);
  const bool by_token = grpo.kl.place == "reward" && grpo.advantage.baseline == "batch";
  if (grpo.kl.place == "reward" && grpo.kl.coefficient > 0) {
    if (by_token) {
      ComputeTokenAdvantages(grpo.kl, grpo.advantage.eps, groups_);
    } else {
      ComputeKlPenalties(grpo.kl, groups_);
    }
  }
  ComputeAdvantages(grpo.advantage, groups_);
}

// Of the weights as they are before the update, where they are not those that samples were drawn with.
void Grpo::ComputeOldLogProbs(int64_t step, GrpoMetrics& metrics) {
  const bool latent = config_.rollout.cache == "latent", fresh = AreFresh(step);
  if (fresh ? !latent : config_.grpo.off_policy.correction == "none") return;
  ComputeLogProbs(*parts_.log_probs, &Episode::old_log_probs);
  if (!fresh) return;  // the weights make most of the difference
  double largest = 0;
  ForEachEpisode(groups_, [&](const Group&, const Episode& episode) {
    for (size_t t = 0; t < episode.old_log_probs.size(); ++t) {
      const double now = episode.old_log_probs[t], drawn = episode.completion.log_probs[t];
      largest = std::max(largest, std::abs(now - drawn));
    }
  });
  metrics.cache_difference = largest;
}

// Weights min(p / q, cap): p of the weights as they are before the update, q of the distribution that was drawn from,
// which is another where weights are older, unlikely tokens were left out or the cache held latents.
void Grpo::Correct() {
  ForEachEpisode(groups_, [&](Group&, Episode& episode) {
    const Completion& drawn = episode.completion;
    const std::vector<float>& before = drawn.filtered_log_probs.empty() ? drawn.log_probs : drawn.filtered_log_probs;
    const std::vector<float>& now = episode.old_log_probs.empty() ? drawn.log_probs : episode.old_log_probs;
    episode.importance.clear();
    for (size_t t = 0; t < now.size(); ++t) {
      const double ratio = core::ExactExp(static_cast<double>(now[t]) - static_cast<double>(before[t]));
      episode.importance.push_back(static_cast<float>(std::min(ratio, config_.grpo.off_policy.cap)));
    }
  });
}

absl::Status Grpo::CheckSampler(int64_t step, const optim::PolicyMetrics& policy, GrpoMetrics& metrics) const {
  // With a cache of latents the update is compared with the pass before it.
  if (!metrics.cache_difference) metrics.sampler_difference = policy.largest_difference;
  if (policy.differing_tokens == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "step %d: %d of %d log-probabilities differ between sampler and trainer, by up to %g: %s", step,
      policy.differing_tokens, policy.tokens, policy.largest_difference,
      metrics.kept_rollout ? "the rollout kept in the run folder was drawn with other weights; delete it"
                           : "a defect of this program or of the machine; nothing was saved of this step"));
}

std::span<Group> Grpo::Minibatch(int64_t index) {
  const int64_t count = config_.grpo.minibatches;
  const int64_t kept = std::count_if(groups_.begin(), groups_.end(), [](const Group& group) { return group.kept; });
  // Groups that are not kept stand between the others and are passed over when rows are packed.
  const auto place_of = [&](int64_t number) {
    size_t place = 0;
    for (; place < groups_.size() && number > 0; ++place) number -= groups_[place].kept;
    return place;
  };
  const size_t begin = place_of(kept * index / count), end = place_of(kept * (index + 1) / count);
  return std::span(groups_).subspan(begin, end - begin);
}

std::optional<optim::ReplayUse> Grpo::ReplayIn(int64_t update) const {
  if (!config_.ReplaysRouter()) return std::nullopt;
  using Use = core::RouterChoices::Use;
  return optim::ReplayUse{update == 0 ? Use::kRecord : Use::kReplay, update % config_.grpo.minibatches};
}

void Grpo::RecordChoices() {
  for (int64_t i = 1; i < config_.grpo.minibatches; ++i) {
    const PackedBatch packed = PackEpisodes(Minibatch(i), config_.data.sequence_length);
    if (packed.batch.rows > 0) parts_.trainer.RecordChoices(packed.batch, i);
  }
}

absl::Status Grpo::Update(int64_t step, GrpoMetrics& metrics) {
  const int64_t updates = UpdatesPerStep(config_.grpo);
  if (config_.ReplaysRouter()) RecordChoices();
  int64_t tokens = 0, places = 0;
  for (int64_t update = 0; update < updates; ++update) {
    PackedBatch packed = PackEpisodes(Minibatch(update % config_.grpo.minibatches), config_.data.sequence_length);
    const bool fresh = update == 0 && AreFresh(step);
    FillPolicy(config_.grpo, config_.rollout.max_tokens,
               fresh ? core::PolicyPass::kOnPolicy : core::PolicyPass::kOffPolicy, packed);
    const int64_t number = (step - 1) * updates + update + 1;
    if (parts_.teacher != nullptr) parts_.teacher->Compute(packed.batch);
    optim::StepMetrics now = parts_.trainer.Step(packed.batch, number, ReplayIn(update));
    if (fresh && now.policy) RETURN_IF_ERROR(CheckSampler(step, *now.policy, metrics));
    tokens += packed.tokens;
    places += packed.batch.rows * packed.batch.length;
    AddUpdate(now, metrics);
  }
  metrics.trained_tokens = tokens;
  const double replayed = static_cast<double>(metrics.update.replayed);
  if (replayed > 0) metrics.router_flips = static_cast<double>(metrics.update.flips) / replayed;
  metrics.padding = places > 0 ? 1.0 - static_cast<double>(tokens) / static_cast<double>(places) : 0;
  return absl::OkStatus();
}

}  // namespace conclave::rl
