// SPDX-License-Identifier: Apache-2.0
#include "rl/reward/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "core/base/quoted.h"
#include "core/base/status_macros.h"
#include "core/checkpoint/file_io.h"

extern char** environ;

namespace conclave::rl {
namespace {

using Clock = std::chrono::steady_clock;
using core::FileDescriptor;

constexpr size_t kKeptErrorBytes = 4096;
// Pipes say when they end, a process does not.
constexpr int kExitCheckMilliseconds = 5;

absl::Status SystemError(std::string_view what, int error) {
  return absl::UnavailableError(absl::StrFormat("%s: %s", what, ::strerrordesc_np(error)));
}

struct Pipe {
  FileDescriptor read, write;
};

absl::StatusOr<Pipe> OpenPipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return SystemError("cannot open a pipe", errno);
  return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// A write to a program that has gone is an error here, not the end of the process. The signal goes to the thread.
class NoPipeSignal {
 public:
  NoPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoPipeSignal() {
    const timespec now = {};
    while (!was_pending_ && sigtimedwait(&pipe_, nullptr, &now) == SIGPIPE) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoPipeSignal(const NoPipeSignal&) = delete;
  NoPipeSignal& operator=(const NoPipeSignal&) = delete;

 private:
  sigset_t pipe_, before_;
  bool was_pending_;
};

// A started program, killed with its group and reaped with its owner.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) {}
  ~Child() {
    if (pid_ > 0) KillAndReap();
  }
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  Child& operator=(Child&&) = delete;

  // Leaves it to be reaped, so that its number, which is that of the group, stays taken.
  bool HasExited() const {
    siginfo_t info = {};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid_;
  }

  // The status of waitpid.
  int KillAndReap() {
    ::kill(-pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

struct StartedChild {
  Child child;
  FileDescriptor input, output, error;
};

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& command, const std::array<int, 3>& files) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  for (int i = 0; i < 3; ++i) posix_spawn_file_actions_adddup2(&actions, files[static_cast<size_t>(i)], i);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return SystemError(absl::StrFormat("cannot start %s", core::Quoted(command[0])), error);
  return pid;
}

absl::StatusOr<StartedChild> Start(const std::vector<std::string>& command, int64_t memory_bytes) {
  ASSIGN_OR_RETURN(Pipe input, OpenPipe());
  ASSIGN_OR_RETURN(Pipe output, OpenPipe());
  ASSIGN_OR_RETURN(Pipe error, OpenPipe());
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(command, {input.read.get(), output.write.get(), error.write.get()}));
  Child child(pid);
  const rlimit memory = {static_cast<rlim_t>(memory_bytes), static_cast<rlim_t>(memory_bytes)};
  // ESRCH: it has ended already.
  if (::prlimit(pid, RLIMIT_AS, &memory, nullptr) != 0 && errno != ESRCH) {
    return SystemError("cannot limit the memory of a program", errno);
  }
  for (const int file : {input.write.get(), output.read.get(), error.read.get()}) {
    if (::fcntl(file, F_SETFL, O_NONBLOCK) != 0) return SystemError("cannot set up a pipe", errno);
  }
  return StartedChild{std::move(child), std::move(input.write), std::move(output.read), std::move(error.read)};
}

// Moves bytes in both directions as they come, so that neither side waits for the other.
class Exchange {
 public:
  Exchange(StartedChild& child, std::string_view input) : child_(child), input_(input) {
    if (input_.empty()) child_.input.Close();
  }

  // True when all is read and the program has ended; false when time is up.
  absl::StatusOr<bool> Run(Clock::time_point deadline, size_t max_output) {
    while (true) {
      const bool exited = child_.child.HasExited();  // before the last read, so that nothing is missed
      RETURN_IF_ERROR(Step(deadline));
      // What is left in the pipes of a program that has ended; what it has started may go on writing.
      while (exited && output_.size() <= max_output && (Read(child_.output, output_) || Read(child_.error, error_))) {
      }
      if (output_.size() > max_output) {
        return absl::ResourceExhaustedError(absl::StrFormat("wrote more than %d bytes", max_output));
      }
      if (exited) return true;
      if (Clock::now() >= deadline) return false;
    }
  }

  std::string TakeOutput() { return std::move(output_); }

  std::string_view LastErrorLine() const {
    const size_t end = error_.find_last_not_of(" \r\n\t");
    if (end == std::string::npos) return "";
    const size_t newline = error_.rfind('\n', end);
    return std::string_view(error_).substr(newline == std::string::npos ? 0 : newline + 1, end - newline);
  }

 private:
  absl::Status Step(Clock::time_point deadline) {
    std::array<pollfd, 3> files = {{{child_.input.get(), POLLOUT, 0},
                                    {child_.output.get(), POLLIN, 0},
                                    {child_.error.get(), POLLIN, 0}}};  // closed ones are -1: skipped
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    const int wait = static_cast<int>(std::clamp<int64_t>(left, 0, kExitCheckMilliseconds));
    if (::poll(files.data(), files.size(), wait) < 0 && errno != EINTR) return SystemError("cannot wait", errno);
    Write();
    Read(child_.output, output_);
    Read(child_.error, error_);
    if (error_.size() > kKeptErrorBytes) error_.erase(0, error_.size() - kKeptErrorBytes);
    return absl::OkStatus();
  }

  void Write() {
    while (child_.input.get() >= 0 && !input_.empty()) {
      const ssize_t written = ::write(child_.input.get(), input_.data(), input_.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0 && errno == EAGAIN) return;
      if (written < 0) break;  // it reads no more, which is no failure as such
      input_.remove_prefix(static_cast<size_t>(written));
    }
    child_.input.Close();
  }

  // One buffer at a time, so that limits are looked at in between. False if there is nothing now.
  static bool Read(FileDescriptor& file, std::string& text) {
    if (file.get() < 0) return false;
    char buffer[1 << 16];
    const ssize_t bytes = ::read(file.get(), buffer, sizeof(buffer));
    if (bytes > 0) text.append(buffer, static_cast<size_t>(bytes));
    if (bytes == 0) file.Close();
    return bytes > 0;
  }

  StartedChild& child_;
  std::string_view input_;
  std::string output_, error_;
};

std::string HowItEnded(int status) {
  if (WIFEXITED(status)) return absl::StrFormat("ended with exit code %d", WEXITSTATUS(status));
  return absl::StrFormat("was ended by signal %d (%s)", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
}

}  // namespace

absl::StatusOr<std::string> RunChild(const std::vector<std::string>& command, std::string_view input,
                                     const ChildLimits& limits) {
  const NoPipeSignal no_pipe_signal;
  ASSIGN_OR_RETURN(StartedChild started, Start(command, limits.memory_bytes));
  const Clock::time_point deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limits.seconds));
  Exchange exchange(started, input);
  ASSIGN_OR_RETURN(const bool ended, exchange.Run(deadline, limits.output_bytes));
  const int status = started.child.KillAndReap();
  if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0) return exchange.TakeOutput();
  const std::string_view said = exchange.LastErrorLine();
  return absl::UnavailableError(absl::StrFormat(
      "%s%s", ended ? HowItEnded(status) : absl::StrFormat("was killed: it took longer than %g s", limits.seconds),
      said.empty() ? "" : absl::StrFormat("; its last words: %s", core::Quoted(said))));
}

absl::Status CheckExecutable(const std::string& program) {
  const auto executable = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
  if (program.find('/') != std::string::npos) {
    if (executable(program)) return absl::OkStatus();
    return absl::NotFoundError(absl::StrFormat("%s is no program that may be run", core::Quoted(program)));
  }
  const char* const path = ::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path == nullptr ? "/bin:/usr/bin" : path, ':')) {
    if (executable(std::string(folder) + "/" + program)) return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrFormat("%s is in no folder of PATH", core::Quoted(program)));
}

}  // namespace conclave::rl
