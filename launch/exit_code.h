// SPDX-License-Identifier: Apache-2.0
// What the process tells its caller. Scripts and cluster managers act on these numbers, so they never change.
#pragma once

namespace conclave::launch {

enum class ExitCode : int {
  kDone = 0,          // finished, or nothing was left to do
  kFailed = 1,        // an error, or a mismatch that `verify` found
  kUsage = 2,         // wrong command line or config file: trying again cannot help
  kRequeue = 75,      // TERM or USR1: saved, wants to be started again
  kInterrupted = 130  // Ctrl-C: saved
};

}  // namespace conclave::launch
