// SPDX-License-Identifier: Apache-2.0
#include "launch/signals.h"

#include <signal.h>
#include <unistd.h>

#include <iterator>

namespace conclave::launch {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGPIPE};

// The one thing a handler may write to.
volatile std::sig_atomic_t requested_signal = 0;

void Remember(int signal) {
  if (signal == SIGINT && requested_signal == SIGINT) ::_exit(static_cast<int>(ExitCode::kInterrupted));
  requested_signal = signal;
}

}  // namespace

StopSignals::StopSignals() {
  requested_signal = 0;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    struct sigaction action = {};
    // A reader of our output that goes away (`| head`) must not end a run.
    action.sa_handler = kSignals[i] == SIGPIPE ? SIG_IGN : Remember;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    ::sigaction(kSignals[i], &action, &before_[i]);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
}

std::optional<ExitCode> StopSignals::Requested() {
  if (requested_signal == 0) return std::nullopt;
  return requested_signal == SIGINT ? ExitCode::kInterrupted : ExitCode::kRequeue;
}

}  // namespace conclave::launch
