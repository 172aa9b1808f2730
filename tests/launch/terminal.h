// SPDX-License-Identifier: Apache-2.0
// The built program in a terminal of its own: keys in, what is shown out.
#pragma once

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::launch {

class Terminal {
 public:
  struct Options {
    int columns = 80;
    std::vector<std::pair<std::string, std::string>> environment = {};
  };

  explicit Terminal(const std::vector<std::string>& arguments) : Terminal(arguments, Options()) {}

  Terminal(const std::vector<std::string>& arguments, const Options& options) {
    std::vector<const char*> argv = {CONCLAVE_BINARY};
    for (const std::string& argument : arguments) argv.push_back(argument.c_str());
    argv.push_back(nullptr);
    struct winsize size = {.ws_row = 25, .ws_col = static_cast<unsigned short>(options.columns)};
    pid_ = ::forkpty(&keyboard_, nullptr, nullptr, &size);
    if (pid_ != 0) return;
    ::setenv("TERM", "xterm", 1);
    ::unsetenv("NO_COLOR");
    for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(CONCLAVE_BINARY, const_cast<char**>(argv.data()));
    ::_exit(127);
  }

  ~Terminal() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(keyboard_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void Type(std::string_view keys) { (void)!::write(keyboard_, keys.data(), keys.size()); }

  void Resize(int columns) {
    struct winsize size = {.ws_row = 25, .ws_col = static_cast<unsigned short>(columns)};
    ::ioctl(keyboard_, TIOCSWINSZ, &size);
  }

  // Until `text` is shown behind what was awaited before; false after half a minute, or when the program ends first.
  bool Await(std::string_view text) {
    for (;;) {
      const size_t found = shown_.find(text, awaited_);
      if (found != std::string::npos) {
        awaited_ = found + text.size();
        return true;
      }
      if (!ReadMore()) return false;
    }
  }

  // Exit code; -signal if a signal ended it.
  int Wait() {
    while (ReadMore()) {
    }
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  // All that was shown so far.
  const std::string& shown() const { return shown_; }

 private:
  bool ReadMore() {
    struct pollfd ready = {.fd = keyboard_, .events = POLLIN};
    if (::poll(&ready, 1, 30'000) <= 0) return false;
    char bytes[4096];
    const ssize_t count = ::read(keyboard_, bytes, sizeof(bytes));
    if (count <= 0) return false;  // EIO: the other end is closed
    shown_.append(bytes, static_cast<size_t>(count));
    return true;
  }

  pid_t pid_ = -1;
  int keyboard_ = -1;
  std::string shown_;
  size_t awaited_ = 0;
};

}  // namespace conclave::launch
