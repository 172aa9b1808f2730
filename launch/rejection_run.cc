// SPDX-License-Identifier: Apache-2.0
#include "launch/rejection_run.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"
#include "data/chat_template.h"
#include "launch/banner.h"
#include "launch/line_sink.h"
#include "launch/ranks.h"
#include "launch/rollout_key.h"
#include "launch/signals.h"
#include "launch/text.h"
#include "rl/rollout_text.h"

namespace conclave::launch {
namespace {

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::string PercentText(int64_t part, int64_t whole) { return absl::StrFormat("%.1f%%", 100 * Share(part, whole)); }

std::string AcceptanceText(const rl::RejectionCounts& c) {
  return absl::StrFormat(
      "accepted %s of %s samples (%s); %s were wrong, %s cut at rollout.max_tokens, %s right in tokens that their text "
      "does not give back",
      CountText(c.accepted), CountText(c.samples), PercentText(c.accepted, c.samples), CountText(c.wrong),
      CountText(c.unfinished), CountText(c.unreadable));
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

core::RolloutConfig RolloutOf(const core::Config& config) {
  core::RolloutConfig rollout = config.rollout;
  rollout.prompts = std::min(rollout.prompts, config.reject.prompts);
  rollout.group = config.reject.samples;
  return rollout;
}

}  // namespace

RejectionRun::RejectionRun(const core::Config& config, RejectionFiles files, RunParts& parts, parallel::Job& job,
                           rl::RewardSum rewards, rl::Rejection rejection)
    : config_(config),
      files_(std::move(files)),
      parts_(parts),
      job_(job),
      num_batches_((config.reject.prompts + config.rollout.prompts - 1) / config.rollout.prompts),
      rewards_(std::move(rewards)),
      rejection_(std::move(rejection)),
      line_(STDOUT_FILENO) {}

absl::StatusOr<std::unique_ptr<RejectionRun>> RejectionRun::Create(const core::Config& config, const RunFolder& folder,
                                                                   RejectionFiles files, RunParts& parts,
                                                                   parallel::Job& job) {
  ASSIGN_OR_RETURN(rl::RewardSum rewards, rl::RewardSum::Create(config.reward));
  ASSIGN_OR_RETURN(data::ChatTemplate chat_template,
                   data::ChatTemplate::Choose(config.data.chat_template, *parts.tokenizer));
  const std::string prefill(chat_template.Prefill());
  rl::Rejection rejection(config.reject.keep, *parts.tokenizer, std::move(chat_template), config.data.system);
  std::unique_ptr<RejectionRun> run(
      new RejectionRun(config, std::move(files), parts, job, std::move(rewards), std::move(rejection)));
  if (IsFirst(job)) run->store_.emplace(folder.RolloutsPath(), RolloutKey(config, parts));
  ASSIGN_OR_RETURN(
      run->sampler_,
      rl::Sampler::Create(
          {.model = *parts.model, .layout = *parts.layout, .tokenizer = *parts.tokenizer, .rewards = run->rewards_},
          RolloutOf(config), config.data.max_prompt_tokens, rl::RejectionSeed(config.train.seed), prefill));
  return run;
}

absl::StatusOr<std::optional<ExitCode>> RejectionRun::Run() {
  ASSIGN_OR_RETURN(const int64_t stored, BeginBehindStored());
  for (int64_t batch = stored + 1; batch <= num_batches_; ++batch) {
    const int64_t reason = MaxOverRanks(job_, StopReason(StopSignals::Requested()));
    if (const auto stop = ExitCodeOfStop(static_cast<int>(reason))) {
      line_.Finish();
      if (IsFirst(job_)) {
        PrintLine(absl::StrFormat("stopped behind batch %d of %d; the same command goes on from there", batch - 1,
                                  num_batches_));
      }
      return *stop;
    }
    const auto start = std::chrono::steady_clock::now();
    const int64_t first = (batch - 1) * config_.rollout.prompts;
    const int64_t count = std::min(config_.rollout.prompts, config_.reject.prompts - first);
    auto groups = sampler_->Draw(first, count, 0, [this](int64_t draw) { return PromptOf(draw); });
    RETURN_IF_ERROR(job_.AgreeOn(groups.status()));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    RETURN_IF_ERROR(OnFirst(job_, [&]() -> absl::Status {
      RETURN_IF_ERROR(store_->Save(batch, rl::WriteGroups(*groups, sampler_->RewardNames())));
      return Take(batch, *groups, seconds);
    }));
  }
  RETURN_IF_ERROR(OnFirst(job_, [this] { return Write(); }));
  return std::nullopt;
}

absl::StatusOr<int64_t> RejectionRun::BeginBehindStored() {
  int64_t stored = 0;
  RETURN_IF_ERROR(OnFirst(job_, [&]() -> absl::Status {
    for (; stored < num_batches_; ++stored) {
      ASSIGN_OR_RETURN(const std::optional<std::string> lines, store_->Load(stored + 1));
      if (!lines) break;
    }
    RETURN_IF_ERROR(OpenFiles(stored));
    if (stored > 0) PrintLine(absl::StrFormat("going on behind batch %d of %d", stored, num_batches_));
    for (int64_t batch = 1; batch <= stored; ++batch) RETURN_IF_ERROR(TakeStored(batch));
    return absl::OkStatus();
  }));
  return MaxOverRanks(job_, stored);
}

absl::Status RejectionRun::OpenFiles(int64_t stored) {
  RETURN_IF_ERROR(core::MakeDirectories(FolderOf(files_.samples)));
  ASSIGN_OR_RETURN(const MetricsHistory history, ReadMetrics(files_.metrics, stored, "kept"));
  recorded_ = history.last_step;
  ASSIGN_OR_RETURN(metrics_, AppendFile::Open(files_.metrics, history.bytes));
  return absl::OkStatus();
}

absl::Status RejectionRun::TakeStored(int64_t batch) {
  ASSIGN_OR_RETURN(const std::optional<std::string> lines, store_->Load(batch));
  ASSIGN_OR_RETURN(const std::vector<rl::Group> groups,
                   rl::ReadGroups(*lines, sampler_->RewardNames(), store_->PathOf(batch)));
  return Take(batch, groups, std::nan(""));
}

absl::Status RejectionRun::Take(int64_t batch, std::span<const rl::Group> groups, double seconds) {
  const rl::RejectionCounts counts = rejection_.Select(
      groups, [this](int64_t draw) { return PromptOf(draw); }, lines_);
  counts_.Add(counts);
  if (batch > recorded_) RETURN_IF_ERROR(Record(batch, counts, seconds));
  const auto now = std::chrono::steady_clock::now();
  const bool is_due = std::chrono::duration<double>(now - shown_).count() >= line_.seconds_between();
  if (!is_due && batch > 1 && batch < num_batches_) return absl::OkStatus();
  line_.Show(absl::StrFormat("batch %d/%d  accepted %s  kept %s", batch, num_batches_,
                             PercentText(counts_.accepted, counts_.samples), CountText(counts_.kept)));
  shown_ = now;
  return absl::OkStatus();
}

absl::Status RejectionRun::Record(int64_t batch, const rl::RejectionCounts& counts, double seconds) {
  JsonLine line;
  line.Add("step", batch);
  line.Add("prompts", counts.prompts);
  line.Add("samples", counts.samples);
  line.Add("unfinished", counts.unfinished);
  line.Add("wrong", counts.wrong);
  line.Add("unreadable", counts.unreadable);
  line.Add("accepted", counts.accepted);
  line.Add("acceptance", Share(counts.accepted, counts.samples));
  line.Add("repeated", counts.repeated);
  line.Add("kept", counts.kept);
  line.Add("answered", counts.answered);
  line.Add("length", Share(counts.tokens, counts.samples));
  line.Add("kept_length", Share(counts.kept_tokens, counts.kept));
  line.Add("seconds", seconds);
  return metrics_.Append(line.Take());
}

absl::Status RejectionRun::Write() {
  line_.Finish();
  if (counts_.kept == 0) return KeptNothing();
  RETURN_IF_ERROR(metrics_.Sync());
  ASSIGN_OR_RETURN(LineSink sink, LineSink::Create(files_.samples));
  RETURN_IF_ERROR(sink.Write(lines_));
  RETURN_IF_ERROR(sink.Finish());
  RETURN_IF_ERROR(core::SyncDirectory(FolderOf(files_.samples)));
  PrintLine(AcceptanceText(counts_));
  PrintLine(absl::StrFormat("kept %s of them, for %s of %s prompts, %.1f tokens on average; %s were repeated",
                            CountText(counts_.kept), CountText(counts_.answered), CountText(counts_.prompts),
                            Share(counts_.kept_tokens, counts_.kept), CountText(counts_.repeated)));
  PrintLabelled("saved", files_.samples);
  return absl::OkStatus();
}

absl::Status RejectionRun::KeptNothing() const {
  return absl::FailedPreconditionError(
      absl::StrFormat("no sample was kept, so there is nothing to write to %s: by the reward %s, %s. Train the model "
                      "further, draw more "
                      "samples of each prompt, raise rollout.max_tokens if many are cut off, or give easier prompts",
                      files_.samples, config_.reward[0].name, AcceptanceText(counts_)));
}

}  // namespace conclave::launch
