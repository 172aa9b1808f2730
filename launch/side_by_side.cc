// SPDX-License-Identifier: Apache-2.0
#include "launch/side_by_side.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

#include "core/base/status_macros.h"
#include "data/load_options.h"
#include "launch/banner.h"
#include "launch/signals.h"
#include "launch/stage_inputs.h"
#include "launch/stage_process.h"

namespace conclave::launch {
namespace {

// How long a signal may wait for an answer.
constexpr int kPollMilliseconds = 100;

class SideBySide {
 public:
  SideBySide(const core::Recipe& recipe, int jobs, int threads, const StageWork& work)
      : recipe_(recipe),
        jobs_(static_cast<size_t>(jobs)),
        threads_(data::NumThreads({.threads = threads})),
        work_(work) {
    for (const core::StagePlan& plan : recipe.stages) {
      waiting_.push_back(&plan);
      name_width_ = std::max(name_width_, plan.name.size());
    }
  }

  absl::StatusOr<ExitCode> Run() {
    while (true) {
      if (const std::optional<ExitCode> stop = StopSignals::Requested()) {
        Stop(*stop, *stop == ExitCode::kInterrupted ? SIGINT : SIGTERM);
      }
      if (!stop_) {
        if (const absl::Status started = StartReady(); !started.ok()) Fail(started);
      }
      if (running_.empty()) break;
      AwaitOutput();
      Collect();
    }
    RETURN_IF_ERROR(failure_);
    return stop_.value_or(ExitCode::kDone);
  }

 private:
  // Nothing that it reads is still to be done.
  bool IsReady(const core::StagePlan& plan) const {
    const auto reads = [&plan](const core::StagePlan* other) { return ReadsStage(plan, *other); };
    return std::none_of(waiting_.begin(), waiting_.end(), reads) &&
           std::none_of(running_.begin(), running_.end(),
                        [&](const StageProcess& process) { return reads(recipe_.Find(process.stage())); });
  }

  absl::Status StartReady() {
    std::vector<const core::StagePlan*> ready;
    std::copy_if(waiting_.begin(), waiting_.end(), std::back_inserter(ready),
                 [this](const core::StagePlan* plan) { return IsReady(*plan); });
    ready.resize(std::min(ready.size(), jobs_ - running_.size()));
    // Those that run keep what they were given.
    const int sharing = static_cast<int>(running_.size() + ready.size());
    for (const core::StagePlan* plan : ready) {
      const int threads = std::max(threads_ / sharing, 1);
      ASSIGN_OR_RETURN(StageProcess process,
                       StageProcess::Start(plan->name, [&, plan] { return work_(*plan, threads); }));
      running_.push_back(std::move(process));
      waiting_.erase(std::find(waiting_.begin(), waiting_.end(), plan));
    }
    return absl::OkStatus();
  }

  void AwaitOutput() const {
    std::vector<pollfd> files;
    for (const StageProcess& process : running_) files.push_back({process.output(), POLLIN, 0});
    (void)::poll(files.data(), files.size(), kPollMilliseconds);  // a signal ends it early
  }

  // Prints what has been written, and takes leave of those that have ended.
  void Collect() {
    for (size_t i = 0; i < running_.size();) {
      StageProcess& process = running_[i];
      const bool runs = process.ReadLines([&](std::string_view line) {
        PrintLine(absl::StrFormat("%-*s | %s", static_cast<int>(name_width_), process.stage(), line));
      });
      if (runs) {
        ++i;
        continue;
      }
      const absl::StatusOr<ExitCode> code = process.Wait();
      running_.erase(running_.begin() + static_cast<ptrdiff_t>(i));
      if (!code.ok()) {
        Fail(code.status());
      } else if (*code != ExitCode::kDone) {
        Stop(*code, SIGTERM);
      }
    }
  }

  // Starts nothing more, and has those that run save what they have. The first reason counts.
  void Stop(ExitCode code, int signal) {
    if (stop_) return;
    stop_ = code;
    for (const StageProcess& process : running_) process.Signal(signal);
  }

  void Fail(const absl::Status& failure) {
    failure_.Update(failure);
    Stop(ExitCode::kFailed, SIGTERM);
  }

  const core::Recipe& recipe_;
  const size_t jobs_;
  const int threads_;
  const StageWork& work_;
  size_t name_width_ = 0;
  std::vector<const core::StagePlan*> waiting_;  // in the order of the file
  std::vector<StageProcess> running_;
  std::optional<ExitCode> stop_;
  absl::Status failure_;
};

}  // namespace

absl::StatusOr<ExitCode> RunSideBySide(const core::Recipe& recipe, int jobs, int threads, const StageWork& work) {
  return SideBySide(recipe, jobs, threads, work).Run();
}

}  // namespace conclave::launch
