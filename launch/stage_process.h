// SPDX-License-Identifier: Apache-2.0
// A stage of a recipe in a process of its own.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "core/checkpoint/file_io.h"
#include "launch/exit_code.h"

namespace conclave::launch {

// Killed and reaped with its owner; and by the system if the owner's process is killed, so that none is left behind.
class StageProcess {
 public:
  // Does `work` and exits with what it returns. Ctrl-C in the terminal does not reach it: signals come from its owner.
  // The owner has no threads beside its first.
  static absl::StatusOr<StageProcess> Start(std::string stage, const std::function<ExitCode()>& work);
  ~StageProcess();
  StageProcess(StageProcess&& other) noexcept;
  StageProcess& operator=(StageProcess&& other) noexcept;

  const std::string& stage() const { return stage_; }
  int output() const { return output_.get(); }  // to poll
  // Hands over the whole lines that have been written since, both of output and of errors. False: it has ended.
  bool ReadLines(const std::function<void(std::string_view)>& use);
  void Signal(int number) const;
  // Waits for its end. An error if no exit code of ours tells how it ended.
  absl::StatusOr<ExitCode> Wait();

 private:
  StageProcess(std::string stage, pid_t pid, core::FileDescriptor output);
  int Reap();

  std::string stage_;
  pid_t pid_ = -1;
  core::FileDescriptor output_;
  std::string line_;  // without its end so far
};

}  // namespace conclave::launch
