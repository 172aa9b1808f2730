// SPDX-License-Identifier: Apache-2.0
#include "launch/signals.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <iterator>
#include <string_view>

namespace conclave::launch {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGPIPE};

// The one kind of thing a handler may write to.
volatile std::sig_atomic_t requested_signal = 0;
volatile std::sig_atomic_t interrupted = 0;

// Handlers may call no more than write, isatty and the like. A terminal shows "^C" at the end of the progress line.
void Say(std::string_view text) {
  if (::isatty(STDERR_FILENO)) (void)!::write(STDERR_FILENO, "\n", 1);
  (void)!::write(STDERR_FILENO, text.data(), text.size());
}

void Remember(int signal) {
  const int error = errno;
  if (signal == SIGINT && requested_signal == SIGINT) {
    Say("stopped: what came after the last checkpoint is not saved\n");
    ::_exit(static_cast<int>(ExitCode::kInterrupted));
  }
  if (signal == SIGINT) Say("stopping after this step and saving; Ctrl-C again stops now\n");
  requested_signal = signal;
  errno = error;
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

InterruptSignal::InterruptSignal() {
  interrupted = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };  // without SA_RESTART: read(2) returns
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &before_);
}

InterruptSignal::~InterruptSignal() { ::sigaction(SIGINT, &before_, nullptr); }

bool InterruptSignal::Take() {
  const bool taken = interrupted != 0;
  interrupted = 0;
  return taken;
}

}  // namespace conclave::launch
