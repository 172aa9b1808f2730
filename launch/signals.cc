// SPDX-License-Identifier: Apache-2.0
#include "launch/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
volatile std::sig_atomic_t interrupt_pipe = -1;
volatile std::sig_atomic_t says_what_it_does = 1;

// Handlers may call no more than write, isatty and the like. A terminal shows "^C" at the end of the progress line.
void Say(std::string_view text) {
  if (says_what_it_does == 0) return;
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

void Interrupt(int) {
  const int error = errno;
  interrupted = 1;
  (void)!::write(interrupt_pipe, "", 1);
  errno = error;
}

}  // namespace

StopSignals::StopSignals(Messages messages) {
  requested_signal = 0;
  says_what_it_does = messages == Messages::kSay ? 1 : 0;
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

int StopReason(std::optional<ExitCode> stop) {
  if (!stop) return 0;
  return *stop == ExitCode::kInterrupted ? 1 : 2;
}

std::optional<ExitCode> ExitCodeOfStop(int reason) {
  if (reason == 0) return std::nullopt;
  return reason == 1 ? ExitCode::kInterrupted : ExitCode::kRequeue;
}

InterruptSignal::InterruptSignal() {
  // Without a pipe waits are still ended, unless Ctrl-C comes right before one.
  (void)!::pipe2(pipe_, O_NONBLOCK | O_CLOEXEC);
  interrupted = 0;
  interrupt_pipe = pipe_[1];
  struct sigaction action = {};
  action.sa_handler = Interrupt;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &before_);
}

InterruptSignal::~InterruptSignal() {
  ::sigaction(SIGINT, &before_, nullptr);
  for (const int end : pipe_) ::close(end);
}

bool InterruptSignal::Take() {
  const bool taken = interrupted != 0;
  interrupted = 0;
  return taken;
}

void InterruptSignal::AwaitInput() const {
  struct pollfd files[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = pipe_[0], .events = POLLIN}};
  while (interrupted == 0) {
    const int ready = ::poll(files, 2, -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || files[0].revents != 0) return;
    char byte;  // what wakes this wait, or is left of an event that was taken
    while (::read(pipe_[0], &byte, 1) > 0) {
    }
  }
}

}  // namespace conclave::launch
