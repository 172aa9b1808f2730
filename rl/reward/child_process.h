// SPDX-License-Identifier: Apache-2.0
// One run of another program: its input goes in, its output comes back, and whatever it does, it is gone afterwards,
// with everything that it started. Nothing goes through a shell.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace conclave::rl {

struct ChildLimits {
  double seconds = 10;
  int64_t memory_bytes = int64_t{512} << 20;  // address space of each process
  size_t output_bytes = size_t{16} << 20;
};

// What the program wrote to standard output. It runs in a process group of its own, which is killed in the end. An
// error if it cannot be started, takes or writes too much, or ends with anything but 0: with the last line of its
// standard error. Safe on several threads at once.
absl::StatusOr<std::string> RunChild(const std::vector<std::string>& command, std::string_view input,
                                     const ChildLimits& limits);

// An error if there is no such program, as execvp would look for it.
absl::Status CheckExecutable(const std::string& program);

}  // namespace conclave::rl
