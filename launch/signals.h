// SPDX-License-Identifier: Apache-2.0
// Signals as a question: "should this run stop?" Ctrl-C, TERM and USR1 are remembered and asked for between steps, so a
// step is never cut in two; a second Ctrl-C stops at once.
#pragma once

#include <csignal>
#include <optional>

#include "launch/exit_code.h"

namespace conclave::launch {

// Handlers in force while an object lives; one at a time per process.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // How to exit once saved; nothing: go on.
  static std::optional<ExitCode> Requested();

 private:
  struct sigaction before_[4];
};

}  // namespace conclave::launch
