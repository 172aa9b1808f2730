// SPDX-License-Identifier: Apache-2.0
#include "launch/load_display.h"

#include <algorithm>

#include "absl/strings/str_format.h"

#include "launch/signals.h"
#include "launch/text.h"

namespace conclave::launch {
namespace {

constexpr double kSilentSeconds = 0.5;

const char* Verb(data::LoadProgress::Phase phase) {
  switch (phase) {
    case data::LoadProgress::Phase::kHashing:
      return "reading";
    case data::LoadProgress::Phase::kTokenizing:
      return "tokenizing";
    case data::LoadProgress::Phase::kVerifying:
      return "checking the tokens of";
    case data::LoadProgress::Phase::kWaiting:
      return "waiting for the process that tokenizes";
  }
  return "";
}

std::string Bar(double share) {
  constexpr int kCells = 20;
  const auto filled = static_cast<size_t>(share * kCells);
  return "[" + std::string(filled, '#') + std::string(kCells - filled, '.') + "]";
}

double Seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

std::string LoadText(const data::LoadProgress& progress, double seconds, int64_t bytes) {
  if (progress.bytes_total <= 0 || bytes <= 0 || seconds <= 0) {
    return absl::StrFormat("%s %s", Verb(progress.phase), progress.source);
  }
  const double share =
      std::min(static_cast<double>(progress.bytes_done) / static_cast<double>(progress.bytes_total), 1.0);
  const double rate = static_cast<double>(bytes) / seconds;
  const int64_t left = std::max<int64_t>(progress.bytes_total - progress.bytes_done, 0);
  return absl::StrFormat("%s %s %d%%  %.1f MB/s  ETA %s  %s", Verb(progress.phase), Bar(share),
                         static_cast<int>(100 * share), rate / 1e6, DurationText(static_cast<double>(left) / rate),
                         progress.source);
}

data::LoadOptions QuietLoadOptions(int threads) {
  return {.threads = threads, .should_stop = [] { return StopSignals::Requested().has_value(); }};
}

data::LoadOptions LoadDisplay::Options(int threads) {
  data::LoadOptions options = QuietLoadOptions(threads);
  options.on_progress = [this](const data::LoadProgress& progress) { Update(progress); };
  return options;
}

void LoadDisplay::Update(const data::LoadProgress& progress) {
  const Clock::time_point now = Clock::now();
  if (progress.phase != current_.phase || progress.source != current_.source) {
    current_ = progress;
    start_ = last_shown_ = now;
  }
  const double wait = last_shown_ == start_ ? kSilentSeconds : line_.seconds_between();
  if (Seconds(now - last_shown_) < wait) return;
  last_shown_ = now;
  line_.Show(LoadText(progress, Seconds(now - start_), progress.bytes_done - current_.bytes_done));
}

}  // namespace conclave::launch
