// SPDX-License-Identifier: Apache-2.0
#include "launch/stage_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"

namespace conclave::launch {
namespace {

// In the new process.
[[noreturn]] void Work(const std::function<ExitCode()>& work, int output, pid_t owner) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != owner) ::_exit(static_cast<int>(ExitCode::kFailed));  // it was killed before the line above
  ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  const ExitCode code = work();
  ::fflush(nullptr);
  ::_exit(static_cast<int>(code));  // what the owner would do at its exit is not done twice
}

}  // namespace

absl::StatusOr<StageProcess> StageProcess::Start(std::string stage, const std::function<ExitCode()>& work) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return core::FileError(errno, "cannot open", "a pipe");
  core::FileDescriptor read(ends[0]), write(ends[1]);
  if (::fcntl(read.get(), F_SETFL, O_NONBLOCK) != 0) return core::FileError(errno, "cannot set up", "a pipe");
  ::fflush(nullptr);  // or both would write what is still held back
  const pid_t owner = ::getpid(), pid = ::fork();
  if (pid == 0) Work(work, write.get(), owner);
  if (pid < 0) return core::FileError(errno, "cannot start", "a process");
  return StageProcess(std::move(stage), pid, std::move(read));
}

StageProcess::StageProcess(std::string stage, pid_t pid, core::FileDescriptor output)
    : stage_(std::move(stage)), pid_(pid), output_(std::move(output)) {}

StageProcess::StageProcess(StageProcess&& other) noexcept
    : stage_(std::move(other.stage_)),
      pid_(std::exchange(other.pid_, -1)),
      output_(std::move(other.output_)),
      line_(std::move(other.line_)) {}

StageProcess& StageProcess::operator=(StageProcess&& other) noexcept {
  std::swap(stage_, other.stage_);
  std::swap(pid_, other.pid_);
  std::swap(output_, other.output_);
  std::swap(line_, other.line_);
  return *this;
}

StageProcess::~StageProcess() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  Reap();
}

bool StageProcess::ReadLines(const std::function<void(std::string_view)>& use) {
  char bytes[4096];
  while (true) {
    const ssize_t count = ::read(output_.get(), bytes, sizeof(bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return true;
    if (count <= 0) break;
    line_.append(bytes, static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = line_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      use(std::string_view(line_).substr(begin, end - begin));
    }
    line_.erase(0, begin);
  }
  if (!line_.empty()) use(line_);
  line_.clear();
  return false;
}

void StageProcess::Signal(int number) const { ::kill(pid_, number); }

absl::StatusOr<ExitCode> StageProcess::Wait() {
  const int status = Reap();
  if (WIFEXITED(status)) {
    for (const ExitCode code :
         {ExitCode::kDone, ExitCode::kFailed, ExitCode::kUsage, ExitCode::kRequeue, ExitCode::kInterrupted}) {
      if (WEXITSTATUS(status) == static_cast<int>(code)) return code;
    }
    return absl::InternalError(absl::StrFormat("stage %s ended with code %d", stage_, WEXITSTATUS(status)));
  }
  const int number = WTERMSIG(status);
  const char* hint = number == SIGKILL ? "; the system does so when memory runs out" : "";
  return absl::AbortedError(
      absl::StrFormat("stage %s was ended by signal %d (%s)%s", stage_, number, ::sigdescr_np(number), hint));
}

int StageProcess::Reap() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return status;
}

}  // namespace conclave::launch
