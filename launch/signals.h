// SPDX-License-Identifier: Apache-2.0
// Signals as a question: "should this run stop?" Ctrl-C, TERM and USR1 are remembered and asked for between steps, so a
// step is never cut in two; a second Ctrl-C stops at once. Ctrl-C says at once what it will do: a step may be long.
#pragma once

#include <csignal>
#include <optional>

#include "launch/exit_code.h"

namespace conclave::launch {

// Handlers in force while an object lives; one at a time per process.
class StopSignals {
 public:
  // Of ranks that are signalled together, one says what will happen.
  enum class Messages { kSay, kLeaveToOthers };
  explicit StopSignals(Messages messages = Messages::kSay);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // How to exit once saved; nothing: go on.
  static std::optional<ExitCode> Requested();

 private:
  struct sigaction before_[4];
};

// An exit code as a number that ranks compare, and back: the greatest of all ranks wins, 0 is to go on.
int StopReason(std::optional<ExitCode> stop);
std::optional<ExitCode> ExitCodeOfStop(int reason);

// Ctrl-C as an event, for as long as an object lives: it is there to be taken once, and ends a wait for input. One at a
// time per process.
class InterruptSignal {
 public:
  InterruptSignal();
  ~InterruptSignal();
  InterruptSignal(const InterruptSignal&) = delete;
  InterruptSignal& operator=(const InterruptSignal&) = delete;

  // Whether it was pressed since the last call.
  static bool Take();
  // Until there is input to read or Ctrl-C to take.
  void AwaitInput() const;

 private:
  struct sigaction before_;
  int pipe_[2] = {-1, -1};  // the handler writes, a wait polls: so none is missed, whichever thread runs the handler
};

}  // namespace conclave::launch
